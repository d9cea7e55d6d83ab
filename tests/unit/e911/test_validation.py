"""What follows from a validator's answer: validated, rejected in its words, or undecided."""

import datetime as dt

import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.e911 import held_store, sites
from engine.e911.lost import LostAway
from engine.e911.lost_xml import ErrorType, Found, LostRefused, Mapping, Validation, Warned
from engine.e911.validation import ask_validator, note_verdict
from engine.errors import Conflict, Stale
from engine.models import Account, AuditEntry, Location, LocationStatus
from tests.factories import HEADQUARTERS, add_account, add_location

NOW = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)
ALL = tuple(HEADQUARTERS)


class Server:
    """A LoST client that has its answer ready."""

    def __init__(self, answer: Found | Exception) -> None:
        self._answer = answer

    async def find_service(self, _location, *, validate):
        assert validate
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def found(validation: Validation | None, *, is_stale: bool = False, warnings: tuple[Warned, ...] = ()) -> Found:
    mapping = Mapping("urn:service:sos", ("sip:psap@x",), "Albany", "911", None, True, "lost.example.net", "1")
    return Found((mapping,), validation, warnings, ("lost.example.net",), is_stale)


@pytest.fixture
async def asked(database):
    """Asks of a fresh headquarters and notes the verdict; gives the row."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        row = await add_location(session, account)

    async def ask(answer: Found | Exception):
        async with database.sessions() as session:
            location = await held_store.current_location(session, account.id, row.id)
        verdict = await ask_validator(Server(answer), location, version=row.version, now=NOW)
        async with database.sessions.begin() as session:
            session.add(row)
            return await note_verdict(session, SYSTEM, row, verdict)

    return ask


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (found(Validation(valid=ALL)), "validated", "lost.example.net knows this address."),
        (found(Validation(("country", "A1", "A3", "RD", "HNO"), (), ("FLR",))), "validated", "knows this address"),
        (found(Validation(("country", "A1"), ("RD", "HNO"))), "rejected", "does not know RD (Washington), HNO (120)"),
        (found(Validation(("country", "A1"), (), ("RD", "HNO"))), "draft", "did not check A3, RD, HNO"),
        (found(Validation()), "draft", "did not check country"),
        (found(None), "draft", "did not validate the address (it gave no reason)"),
        (
            found(None, warnings=(Warned("locationValidationUnavailable", "try later"),)), "draft",
            "locationValidationUnavailable: try later",
        ),
        (LostRefused(ErrorType.LOCATION_INVALID, "no such road", "lost.x"), "rejected", "lost.x: no such road"),
        (LostRefused(ErrorType.NOT_FOUND, "", "lost.x"), "draft", "lost.x: notFound"),
        (LostRefused(ErrorType.FORBIDDEN, "who are you?", ""), "draft", "the LoST server: who are you?"),
    ],
)  # fmt: skip
async def test_the_status_follows_what_the_validator_found(database, asked, answer, status, words):
    """E-14: an address is validated when its street and house number were; its words stand with it and in the log."""
    row = await asked(answer)
    assert (row.status, row.validated_at) == (status, NOW if status == "validated" else None)
    assert words in row.validation["words"]
    assert row.validation["verdict"] == ("undecided" if status == "draft" else status)
    async with database.sessions() as session:
        entry = await session.scalar(select(AuditEntry).where(AuditEntry.event == Event.LOCATION_VALIDATE))
    assert row.validation["words"] in entry.entry.replace("\\", "")


async def test_an_undecided_validator_takes_no_earlier_validation_away(asked):
    assert (await asked(found(Validation(valid=ALL)))).status == "validated"
    row = await asked(found(None))
    assert (row.status, row.validation["verdict"]) == ("validated", "undecided")


async def test_an_answer_from_before_validates_nothing(asked):
    with pytest.raises(LostAway, match="does not answer now"):
        await asked(found(Validation(valid=ALL), is_stale=True))


async def test_an_edit_while_the_validator_was_asked_is_not_validated(database):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        row = await add_location(session, account)
        location = await held_store.current_location(session, account.id, row.id)
    verdict = await ask_validator(Server(found(Validation(valid=ALL))), location, version=row.version, now=NOW)
    async with database.sessions.begin() as session:
        session.add(row)
        await sites.update_location(session, SYSTEM, account, row, {"name": "Moved"})
    with pytest.raises(Stale):
        async with database.sessions.begin() as session:
            session.add(row)
            await note_verdict(session, SYSTEM, row, verdict)
    async with database.sessions() as session:
        kept = await session.get(Location, location.id)
    assert (kept.status, kept.validation) == (LocationStatus.DRAFT, None)


async def test_a_persons_word_and_a_changed_address_put_the_validators_words_away(database, asked):
    """E-14: a change to a validated address goes back to draft."""
    row = await asked(found(Validation(valid=ALL)))
    async with database.sessions.begin() as session:
        session.add(row)
        await sites.validate_location(session, SYSTEM, row, accepted=False)
    assert (row.status, row.validation["words"]) == ("rejected", "Callpoint says that it is wrong.")
    row = await asked(found(Validation(valid=ALL)))
    async with database.sessions.begin() as session:
        session.add(row)
        account = await session.get(Account, row.account_id)
        await sites.update_location(session, SYSTEM, account, row, {"civic_address": HEADQUARTERS | {"HNO": "9"}})
    assert (row.status, row.validated_at, row.validation) == ("draft", None, None)


async def test_coordinates_alone_cannot_be_validated(database):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        geo = {"latitude": 42.65, "longitude": -73.75}
        row = await add_location(session, account, civic_address={}, geo=geo)
        location = await held_store.current_location(session, account.id, row.id)
    with pytest.raises(Conflict, match="no street address"):
        await ask_validator(Server(found(None)), location, version=1, now=NOW)
    with pytest.raises(Conflict, match="lost_url"):
        await ask_validator(None, location, version=1, now=NOW)
