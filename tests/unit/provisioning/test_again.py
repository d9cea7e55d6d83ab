"""What was served before is served again only while row, revision and kept file are the same ones."""

import weakref

from multidict import CIMultiDict

from engine.provisioning.again import Answered, Served
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.index import Found
from engine.provisioning.kept import Kept, KeptFiles

KEY = ("phone", "805ec0aabb01.cfg", "http://h token")
FOUND = Found("account", 7, "phone", "yealink", "T46U", "{}", last_ip="192.0.2.7", status="current")
FETCH = Fetch(FetchKind.FETCH, "805ec0aabb01.cfg", "GET", 200, "192.0.2.7", "Yealink")


def made(revision: int = 7) -> Kept:
    return Kept(revision, b"x", '"e"', CIMultiDict())


def remembered(files: KeptFiles, answered: Answered, asked: tuple[object, ...] = ("GET", "/p/t/f")) -> Kept:
    kept = made()
    files.put(KEY, kept)
    answered.put(asked, Served(FOUND, KEY, weakref.ref(kept), weakref.ref(kept), is_same=True, fetch=FETCH))
    return kept


def test_the_same_request_that_finds_the_same_row_gets_the_same_file():
    files, answered = KeptFiles(), Answered()
    kept = remembered(files, answered)
    known = answered.get(("GET", "/p/t/f"), FOUND, files)
    assert known is not None
    assert known[0] is kept
    assert (known[1].is_same, known[1].fetch) == (True, FETCH)
    assert answered.get(("HEAD", "/p/t/f"), FOUND, files) is None


def test_any_change_of_the_row_asks_the_rules_again():
    """P-03: revision, policy, status and last address stand in the row that every request looks up."""
    files, answered = KeptFiles(), Answered()
    remembered(files, answered)
    changes = {
        "revision": 8, "policy": '{"sources": []}', "status": "quarantined", "last_ip": "198.51.100.1", "is_next": True,
        "phone_id": None, "vendor": "snom", "model": "T48U", "account_id": "other",
    }  # fmt: skip
    for name, value in changes.items():
        assert answered.get(("GET", "/p/t/f"), FOUND._replace(**{name: value}), files) is None, name


def test_a_file_that_was_made_anew_or_is_no_longer_kept_is_not_served_again():
    files, answered = KeptFiles(), Answered()
    remembered(files, answered)
    files.put(KEY, made())
    assert answered.get(("GET", "/p/t/f"), FOUND, files) is None
    gone, answered = KeptFiles(), Answered()
    remembered(gone, answered)
    assert answered.get(("GET", "/p/t/f"), FOUND, KeptFiles()) is None


def test_what_is_remembered_has_a_bound_and_holds_no_file_in_memory():
    files, answered = KeptFiles(), Answered(most=3)
    watched = weakref.ref(remembered(files, answered))
    for at in range(10):
        remembered(files, answered, ("GET", at))
    assert len(answered) <= 3
    assert watched() is None
