"""`python -m tests.golden.rewrite`: write every golden file anew, so that the review reads the difference."""

from tests.golden.samples import ROOT, rendered


def main() -> None:
    files = rendered()
    for path in sorted(ROOT.rglob("*.cfg")):
        if path not in files:
            path.unlink()
            print(f"gone     {path.relative_to(ROOT)}")
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        state = "same" if path.exists() and path.read_bytes() == data else "written"
        path.write_bytes(data)
        print(f"{state:8} {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
