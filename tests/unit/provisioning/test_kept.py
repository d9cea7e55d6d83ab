from multidict import CIMultiDict

from engine.provisioning.kept import Kept, KeptFiles


def kept(revision: int, size: int) -> Kept:
    return Kept(revision, b"x" * size, '"e"', CIMultiDict())


def test_another_revision_is_not_found_and_replaces_the_old():
    files = KeptFiles()
    files.put(("p", "f", "b"), kept(1, 10))
    assert files.get(("p", "f", "b"), 1) is not None
    assert files.get(("p", "f", "b"), 2) is None
    files.put(("p", "f", "b"), kept(2, 30))
    assert (len(files), files.size_bytes) == (1, 30)


def test_the_least_recently_used_go_first_when_the_bytes_are_used_up():
    files = KeptFiles(max_bytes=100)
    for name in "abc":
        files.put((name, "f", "b"), kept(1, 30))
    assert files.get(("a", "f", "b"), 1) is not None
    files.put(("d", "f", "b"), kept(1, 30))
    assert files.get(("b", "f", "b"), 1) is None
    assert files.get(("a", "f", "b"), 1) is not None
    assert files.size_bytes <= 100
    files.put(("huge", "f", "b"), kept(1, 1000))
    assert len(files) == 1
