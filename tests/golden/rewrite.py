"""`python -m tests.golden.rewrite`: write every golden file and docs/phones.md anew, so that the review reads the
difference.
"""

from tests.golden import dialects, phones_page, samples


def main() -> None:
    files = samples.rendered() | dialects.invites()
    phones_page.PATH.write_text(phones_page.page())
    root = samples.ROOT.parent
    for path in sorted([*samples.ROOT.rglob("*.cfg"), *dialects.ROOT.rglob("*.sip")]):
        if path not in files:
            path.unlink()
            print(f"gone     {path.relative_to(root)}")
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        state = "same" if path.exists() and path.read_bytes() == data else "written"
        path.write_bytes(data)
        print(f"{state:8} {path.relative_to(root)}")


if __name__ == "__main__":
    main()
