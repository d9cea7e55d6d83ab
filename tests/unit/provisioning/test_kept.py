from multidict import CIMultiDict

from engine.provisioning.kept import MAX_BASES, OVERHEAD_BYTES, Kept, KeptFiles


def kept(revision: int, size: int) -> Kept:
    return Kept(revision, b"x" * size, '"e"', CIMultiDict())


def test_another_revision_is_not_found_and_replaces_the_old():
    files = KeptFiles()
    files.put(("p", "f", "b"), kept(1, 10))
    assert files.get(("p", "f", "b"), 1) is not None
    assert files.get(("p", "f", "b"), 2) is None
    files.put(("p", "f", "b"), kept(2, 30))
    assert (len(files), files.size_bytes) == (1, 30 + OVERHEAD_BYTES)


def test_the_least_recently_used_go_first_when_the_bytes_are_used_up():
    files = KeptFiles(max_bytes=100 + 3 * OVERHEAD_BYTES)
    for name in "abc":
        files.put((name, "f", "b"), kept(1, 30))
    assert files.get(("a", "f", "b"), 1) is not None
    files.put(("d", "f", "b"), kept(1, 30))
    assert files.get(("b", "f", "b"), 1) is None
    assert files.get(("a", "f", "b"), 1) is not None
    assert files.size_bytes <= 100 + 3 * OVERHEAD_BYTES
    files.put(("huge", "f", "b"), kept(1, 10_000))
    assert len(files) == 1


def test_small_files_count_with_what_they_take_beside_their_bytes():
    """P-13: keys, headers and askers take memory too, and there is an end to their number."""
    files = KeptFiles(max_bytes=10 * OVERHEAD_BYTES)
    for at in range(100):
        files.put((f"p{at}", "f", "b"), kept(1, 1))
    assert len(files) == 9
    few = KeptFiles(max_files=3)
    for at in range(10):
        few.put((f"p{at}", "f", "b"), kept(1, 1))
    assert (len(few), few.get(("p9", "f", "b"), 1) is not None, few.get(("p6", "f", "b"), 1)) == (3, True, None)


def test_a_file_is_kept_for_a_few_hosts_however_many_an_asker_names():
    """P-13: `Host` is the asker's word; a thousand of them do not push other phones' files out."""
    files = KeptFiles()
    files.put(("other", "f", "b"), kept(1, 10))
    for at in range(1000):
        files.put(("p", "f", f"http://h{at}"), kept(1, 10))
        files.put(("p", "f", f"http://h{at}"), kept(2, 20))
    assert len(files) == 1 + MAX_BASES
    assert files.get(("p", "f", "http://h999"), 2) is not None
    assert files.get(("p", "f", "http://h0"), 2) is None
    assert files.size_bytes == 10 + MAX_BASES * 20 + (1 + MAX_BASES) * OVERHEAD_BYTES
    assert len(files._bases) == 2
