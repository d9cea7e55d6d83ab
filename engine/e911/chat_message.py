"""What an SMS or chat message says of a call: the facts of the mail in a few lines (pure)."""

from dataclasses import replace

from engine.e911 import mail
from engine.e911.mail import Told

MAX_CHARS = 900  # some six SMS; chats take more
# Signs by which a name could call a whole channel or become a link: shown as their wide twins.
_HARMLESS = str.maketrans({"@": "＠", "<": "‹", ">": "›", "`": "'", "*": "＊"})  # noqa: RUF001  # that is what they are for


def compose(told: Told) -> mail.Composed:
    """Subject and text. The subject is the mail's, so that both are known as one."""
    subject = mail.compose(_harmless(told), "account").subject
    facts = (
        ("Call back", mail.one_line(told.callback_number or "") or "no number is known"),
        ("Address", _plain("; ".join(mail.address_lines(told.civic_address)))),
        ("Perhaps at", _plain("; or ".join(mail.place_words(place) for place in told.elsewhere[: mail.MAX_PLACES]))),
        ("Time", mail.time_words(told.sent_at, told.timezone)),
        ("On site", _plain(mail.one_line(told.onsite_number or ""))),
        ("Call id", told.call_id),
    )
    lines = [f"{label}: {text}" for label, text in facts if text]
    text = "\n".join(lines)[:MAX_CHARS]
    return mail.Composed(subject, f"{text}\n{told.page_url}" if told.page_url else text)


def compose_test(account_name: str) -> mail.Composed:
    """A test that somebody asked for: nobody called."""
    name = _plain(mail.one_line(account_name, 80))
    return mail.Composed(
        f"[TEST] Callpoint can reach you for {name}",
        "Nobody called and nobody needs help. Messages about emergency calls will come from here.",
    )


def _harmless(told: Told) -> Told:
    return replace(
        told,
        caller_name=_plain(told.caller_name),
        extension=_plain(told.extension),
        location_name=None if told.location_name is None else _plain(told.location_name),
        prefix=_plain(told.prefix),
    )


def _plain(text: str) -> str:
    return text.translate(_HARMLESS)
