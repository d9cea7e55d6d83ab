"""The journal: durable before anybody is told, read in order, nothing lost by crash or full disk."""

import threading

import pytest

from engine.crypto import KeyRing
from engine.e911.journal import START, JournalReader, JournalWriter, Position

WITHIN_S = 60.0


class Told:
    """What a writer reported, from its thread."""

    def __init__(self):
        self.durable = threading.Event()
        self.faults = []
        self.faulty = threading.Event()

    def fault(self, detail):
        self.faults.append(detail)
        self.faulty.set()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def writer(tmp_path, keys, told):
    made = []

    def make(**settings):
        settings = {"retry_s": 0.02} | settings
        made.append(JournalWriter(tmp_path / "j", keys, on_durable=told.durable.set, on_fault=told.fault, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def reader(tmp_path, keys):
    return JournalReader(tmp_path / "j", keys)


def numbers(entries):
    return [entry["n"] for entry in entries]


def test_entries_are_read_in_the_order_they_were_put(writer, reader, told):
    """Decision 6: what was put is on disk when it is told."""
    journal = writer()
    for n in range(100):
        journal.put({"n": n, "text": "\udcff é"})
    assert told.durable.wait(WITHIN_S)
    assert journal.close()
    entries, position = reader.read_from()
    assert numbers(entries) == list(range(100))
    assert entries[0]["text"] == "\udcff é"
    assert reader.read_from(position) == ([], position)


def test_reading_goes_on_where_it_ended(writer, reader):
    """A position is all a reader must keep."""
    journal = writer()
    for n in range(10):
        journal.put({"n": n})
    assert journal.close()
    seen, position = [], START
    while True:
        entries, position = reader.read_from(position, limit=3)
        if not entries:
            break
        seen += numbers(entries)
        assert len(position) < 100
    assert seen == list(range(10))


def test_files_turn_over_by_size_and_go_when_recorded(tmp_path, writer, reader, told):
    """Recorded files may be removed; the one being written stays."""
    journal = writer(max_file_bytes=100)
    for n in range(12):
        told.durable.clear()
        journal.put({"n": n})
        assert told.durable.wait(WITHIN_S)
    files = sorted((tmp_path / "j").iterdir())
    assert len(files) > 2
    entries, position = reader.read_from()
    assert numbers(entries) == list(range(12))
    assert reader.discard(position) == len(files) - 1
    assert list((tmp_path / "j").iterdir()) == files[-1:]
    journal.put({"n": 99})
    assert journal.close()
    entries, position = reader.read_from(position)
    assert numbers(entries) == [99]
    reader.discard(position)
    assert not list((tmp_path / "j").iterdir())
    another = writer()
    another.put({"n": 100})
    assert another.close()
    assert numbers(reader.read_from(position)[0]) == [100]


def test_a_line_torn_by_a_crash_is_passed_over_when_nobody_writes_any_more(tmp_path, writer, reader):
    """A torn last line waits while its file is open, and blocks nothing once it is not."""
    first = writer()
    first.put({"n": 1})
    assert first.close()
    (file,) = (tmp_path / "j").iterdir()
    with file.open("ab") as torn:
        torn.write(b"half a li")
    second = writer()
    second.put({"n": 2})
    assert second.close()
    entries, position = reader.read_from()
    assert numbers(entries) == [1, 2]
    assert reader.discard(position) == 2


def test_two_writers_share_a_folder_and_nothing_is_missed(tmp_path, keys, writer, reader, told):
    """An old process finishing its calls beside a new one: what it adds late is read."""
    old, young = writer(), writer()
    old.put({"n": 1})
    assert told.durable.wait(WITHIN_S)
    young.put({"n": 2})
    assert young.close()
    entries, position = reader.read_from()
    assert numbers(entries) == [1, 2]
    old.put({"n": 3})
    assert old.close()
    entries, position = reader.read_from(position)
    assert numbers(entries) == [3]
    assert reader.discard(position) == 2


def test_a_disk_that_refuses_keeps_entries_until_it_takes_them(tmp_path, writer, reader, told):
    """Never blocks, never loses: entries wait in memory and are written when they can be."""
    (tmp_path / "j").write_text("in the way")
    journal = writer()
    journal.put({"n": 1})
    assert told.faulty.wait(WITHIN_S)
    journal.put({"n": 2})
    assert not told.durable.is_set()
    assert journal.waiting == 2
    (tmp_path / "j").unlink()
    assert told.durable.wait(WITHIN_S)
    assert journal.close()
    assert numbers(reader.read_from()[0]) == [1, 2]
    assert told.faults[-1] == ""
    assert "2 entries wait" in told.faults[-2] or "1 entries wait" in told.faults[0]


def test_what_waits_is_bounded_and_what_is_given_up_is_counted(tmp_path, writer, told):
    """A disk that refuses for ever does not eat the memory."""
    (tmp_path / "j").write_text("in the way")
    journal = writer(max_waiting=5, retry_s=30)
    journal.put({"n": 0})
    assert told.faulty.wait(WITHIN_S)
    for n in range(1, 20):
        journal.put({"n": n})
    assert journal.waiting <= 10
    assert journal.lost == 14
    assert not journal.close(within_s=1.0)


def test_a_line_that_does_not_open_is_counted_and_passed_over(tmp_path, writer, reader, keys):
    """A changed byte or another key hides one entry, not those behind it."""
    journal = writer()
    journal.put({"n": 1})
    assert journal.close()
    (file,) = (tmp_path / "j").iterdir()
    file.write_bytes(b"bm90IHNlYWxlZA==\nnot base64 at all\n" + file.read_bytes())
    assert numbers(reader.read_from()[0]) == [1]
    assert reader.unreadable == 2
    stranger = JournalReader(tmp_path / "j", KeyRing("k1", {"k1": b"x" * 32}))
    assert stranger.read_from()[0] == []
    assert stranger.unreadable == 3


def test_the_file_is_sealed_and_private(tmp_path, writer):
    """S-02: sealed at rest."""
    journal = writer()
    journal.put({"who": "Ada at desk 4"})
    assert journal.close()
    (file,) = (tmp_path / "j").iterdir()
    assert b"Ada" not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_an_absent_folder_is_an_empty_journal(reader):
    assert reader.read_from() == ([], "0;")
    assert reader.discard(Position("5;")) == 0


def test_a_folder_emptied_behind_the_reader_does_not_hide_what_comes(tmp_path, writer, reader):
    """Names grow with time, whatever was removed."""
    first = writer()
    first.put({"n": 1})
    assert first.close()
    _, position = reader.read_from()
    for file in (tmp_path / "j").iterdir():
        file.unlink()
    second = writer()
    second.put({"n": 2})
    assert second.close()
    assert numbers(reader.read_from(position)[0]) == [2]
