"""`callpoint backup` and `callpoint restore`: what comes back, what is refused, and in which words."""

import io
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import backup as backups
from engine import crypto, data_folder, migrations
from engine.__main__ import app
from engine.backup import NoBackup, NotRestored
from engine.config import Config, Core
from engine.data_folder import AlreadyRunning
from engine.errors import Invalid

PASSWORD = "violet tractor hums beneath nine lakes\n"


def command(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(app, list(words), input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with an account, a journal, a file for phones, and what only a running node needs."""
    data = tmp_path / "data"
    monkeypatch.setenv("CALLPOINT_CORE__DATA_DIR", str(data))
    command(
        "account", "create", "--name", "Acme", "--owner-email", "o@acme.example", "--password-stdin", typed=PASSWORD
    )
    for name in ("journal/journal-1-2.sealed", "assets/" + "a" * 64, "snapshot/account_1.sealed"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(name.encode())
    for name in ("edge.owner", "edge-1.owner", "callpoint.lock", "assets/upload-1", "snapshot/account_1.new"):
        (data / name).write_text("of a running node")
    return data


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Path:
    command("backup", str(tmp_path / "good.tar"))
    return tmp_path / "good.tar"


@pytest.fixture
def elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another data folder, which is not there yet."""
    assert made.exists()
    monkeypatch.setenv("CALLPOINT_CORE__DATA_DIR", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(folder: Path) -> list[tuple[str, int, dict[str, object]]]:
    with sqlite3.connect(folder / "callpoint.db") as database:
        rows = database.execute("SELECT chain, seq, entry FROM audit_entry ORDER BY chain, seq").fetchall()
    return [(chain, seq, json.loads(entry)) for chain, seq, entry in rows]


def rewritten(source: Path, target: Path, changed: dict[str, bytes | None]) -> Path:
    """The archive with members changed, added, or (None) left out."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        kept = {member.name: (old.extractfile(member) or io.BytesIO()).read() for member in old}
        for name, content in (kept | changed).items():
            if content is not None:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                new.addfile(header, io.BytesIO(content))
    return target


def test_what_was_backed_up_comes_back_and_nothing_of_a_running_node(folder: Path, elsewhere: Path, made: Path) -> None:
    """Keys, journal, files for phones and location tables byte for byte; locks and half-written files are no data."""
    said = command("restore", str(made))
    assert "1 account(s)" in said
    assert "rotated since then counts again" in said
    before, after = files_in(folder), files_in(elsewhere)
    assert after.keys() == {
        "callpoint.db", "keys.toml", "journal/journal-1-2.sealed", "assets/" + "a" * 64, "snapshot/account_1.sealed",
    }  # fmt: skip
    assert all(after[name] == before[name] for name in after if name != "callpoint.db")
    assert all(path.stat().st_mode & 0o077 == 0 for path in elsewhere.rglob("*"))
    assert made.stat().st_mode & 0o077 == 0
    assert '"name": "Acme"' in command("account", "list", "--json")


def test_the_log_says_of_itself_that_it_was_backed_up_and_restored(folder: Path, elsewhere: Path, made: Path) -> None:
    """The copy holds the entry of its own making; every chain goes on with an entry that says behind which it stopped,
    and verifies.
    """
    last = {chain: seq for chain, seq, _ in entries(folder)}
    command("restore", str(made))
    told = entries(elsewhere)
    ((_, _, making),) = [one for one in told if one[2]["event"] == "backup.create"]
    restored = {chain: (seq, entry) for chain, seq, entry in told if entry["event"] == "backup.restore"}
    assert restored.keys() == last.keys()
    for chain, (seq, entry) in restored.items():
        assert (seq, entry["details"]["behind"]) == (last[chain] + 1, last[chain])
        assert entry["resource"]["id"] == making["resource"]["id"]
        export = elsewhere.parent / "export.jsonl"
        export.write_text(command("audit", "export", "--account", chain))
        assert "entries hold" in command("audit", "verify", str(export))


def test_a_restore_never_writes_over_anything(folder: Path, made: Path) -> None:
    """A folder with data, a running node's folder, a database elsewhere: refused, and all stays as it was."""
    before = files_in(folder)
    with pytest.raises(NotRestored, match=r"and more, and nothing is written over that.*mv .*data .*data\.before"):
        command("restore", str(made))
    assert files_in(folder) == before


def test_a_folder_that_a_node_holds_is_not_restored_into(elsewhere: Path, made: Path) -> None:
    """The node has made its lock and nothing else yet."""
    lock = data_folder.take(elsewhere)
    try:
        with pytest.raises(AlreadyRunning):
            command("restore", str(made))
        assert [path.name for path in elsewhere.iterdir()] == ["callpoint.lock"]
    finally:
        os.close(lock)


def test_what_is_not_whole_is_refused_and_leaves_nothing(elsewhere: Path, made: Path, tmp_path: Path) -> None:
    """Cut off at any place, a byte changed, a member more or less, a name that leads out of the folder."""
    whole = made.read_bytes()
    for end in (0, 100, 1000, len(whole) // 2, len(whole) - 12_000):
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        with pytest.raises(NotRestored, match="cut off or changed"):
            command("restore", str(tmp_path / "cut.tar"))
    for changed, why in (
        ({"keys.toml": b"x"}, r"damaged: keys\.toml"),
        ({"data/journal/journal-1-2.sealed": None}, "damaged: data/journal"),
        ({"data/more": b"x"}, "damaged: data/more"),
        ({"data/../../out": b"x"}, "is no backup"),
        ({"/out": b"x"}, "is no backup"),
        ({"manifest.json": b"[]"}, "cut off or changed"),
        ({"manifest.json": b"{"}, "cut off or changed"),
    ):
        bad = rewritten(made, tmp_path / "bad.tar", changed)
        with pytest.raises(NotRestored, match=why):
            command("restore", str(bad))
    assert not elsewhere.exists()
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_file_is_not_followed(elsewhere: Path, tmp_path: Path) -> None:
    """A backup holds files alone."""
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("data/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(NotRestored, match="is no backup"):
        command("restore", str(tmp_path / "link.tar"))
    assert not elsewhere.exists()


def test_a_backup_without_keys_wants_its_own_ones(folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    """No secret leaves with it; another key file would open nothing and is refused."""
    config = Config(core=Core(data_dir=folder))
    with pytest.MonkeyPatch.context() as here:
        here.setenv("CALLPOINT_CORE__DATA_DIR", str(folder))
        told = json.loads(command("backup", str(tmp_path / "bare.tar"), "--without-keys", "--json"))
    assert told["keys"] is False
    assert b"[keys]" not in (tmp_path / "bare.tar").read_bytes()
    with pytest.raises(NotRestored, match="made without its keys"):
        command("restore", str(tmp_path / "bare.tar"))
    crypto.create(tmp_path / "other.toml")
    with pytest.raises(NotRestored, match="not the key file of this backup"):
        command("restore", str(tmp_path / "bare.tar"), "--keys", str(tmp_path / "other.toml"))
    assert not elsewhere.exists()
    command("restore", str(tmp_path / "bare.tar"), "--keys", str(config.key_file))
    assert (elsewhere / "keys.toml").read_bytes() == config.key_file.read_bytes()


def test_a_newer_version_s_backup_is_not_taken_apart(elsewhere: Path, made: Path, tmp_path: Path) -> None:
    """An older program would not know what it holds."""
    with tarfile.open(made) as archive:
        told = json.loads((archive.extractfile("manifest.json") or io.BytesIO()).read())
    newer = rewritten(made, tmp_path / "newer.tar", {"manifest.json": json.dumps(told | {"revision": "9999"}).encode()})
    with pytest.raises(NotRestored, match="newer than this version's"):
        command("restore", str(newer))
    assert not elsewhere.exists()


def test_a_backup_goes_where_it_survives_and_never_over_another(folder: Path, made: Path, tmp_path: Path) -> None:
    """In a folder each has a name of its own; not below the data; not over a file; not where nothing is to be saved."""
    with pytest.raises(Invalid, match="is there already"):
        command("backup", str(made))
    with pytest.raises(Invalid, match="lost together with what it backs up"):
        command("backup", str(folder / "b.tar"))
    with pytest.raises(Invalid, match="There is no folder"):
        command("backup", str(tmp_path / "none" / "b.tar"))
    (tmp_path / "many").mkdir()
    command("backup", str(tmp_path / "many"))
    (one,) = (tmp_path / "many").iterdir()
    assert one.match("callpoint-*Z.tar")
    with pytest.MonkeyPatch.context() as here, pytest.raises(Invalid, match="nothing to back up"):
        here.setenv("CALLPOINT_CORE__DATA_DIR", str(tmp_path / "wrong"))
        command("backup", str(tmp_path / "wrong.tar"))
    assert not (tmp_path / "wrong").exists()


def test_an_upgrade_begins_with_a_backup_of_what_was_before(folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    """The new program backs up without migrating; it restores the older schema and migrates then."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("CALLPOINT_CORE__DATA_DIR", str(folder))
        here.setattr(migrations, "newest_revision", lambda: "0007")
        command("backup", str(tmp_path / "before.tar"))
    with tarfile.open(tmp_path / "before.tar") as archive:
        told = json.loads((archive.extractfile("manifest.json") or io.BytesIO()).read())
    assert told["revision"] == "0006"
    command("restore", str(tmp_path / "before.tar"))
    assert (elsewhere / "callpoint.db").exists()


def test_a_damaged_database_is_told_and_not_backed_up(folder: Path, tmp_path: Path) -> None:
    """A backup that cannot be restored is worse than none: nothing is left that looks like one."""
    config = Config(core=Core(data_dir=folder))
    with sqlite3.connect(folder / "callpoint.db") as database:
        database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    content = bytearray((folder / "callpoint.db").read_bytes())
    content[4096 * 3 : 4096 * 12] = b"\xff" * 4096 * 9
    (folder / "callpoint.db").write_bytes(content)
    manifest = backups.Manifest("2026-01-01T00:00:00Z", "0", "0006", "sqlite", {}, has_keys=True)
    with pytest.raises(NoBackup, match="damaged"):
        backups.make(config, manifest, tmp_path / "b.tar")
    assert not [path for path in tmp_path.iterdir() if path != folder]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened and what helps, no traceback."""
    config = Config(core=Core(data_dir=folder))
    manifest = backups.Manifest("2026-01-01T00:00:00Z", "0", "0006", "sqlite", {}, has_keys=True)
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(full))
        with pytest.raises(NoBackup, match="disk became full"):
            backups.make(config, manifest, None)
        monkeypatch.undo()
