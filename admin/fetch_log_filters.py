"""The filters of the fetch log, as they stand in an address: the same for the page and the API."""

import datetime as dt

from multidict import MultiMapping

from admin.fetch_words import REASONS
from admin.routes import Query
from engine.errors import FieldFault
from engine.provisioning.store_fetch_list import Filters, Outcome

NAMES = ("outcome", "reason", "q", "since", "until")
NOBODY = "nobody"  # in place of an outcome: by a token that is no account's
OUTCOMES = (*(outcome.value for outcome in Outcome), NOBODY)
MAX_TEXT = 100  # characters
FILTER_QUERIES = (
    Query(
        "outcome",
        {"enum": list(OUTCOMES)},
        "`refused` or failed; `served`; `absent`: files that phones do without; `upload`; `nobody`: by a URL that is "
        "no account's, where there is one account alone.",
    ),
    Query("reason", {"enum": list(REASONS)}, "Why it was refused."),
    Query("q", {"type": "string", "maxLength": MAX_TEXT}, "Words, each in file, User-Agent or at the address's start."),
    Query("since", {"type": "string", "format": "date-time"}, "Not before this time (RFC 3339)."),
    Query("until", {"type": "string", "format": "date-time"}, "Not after this time (RFC 3339)."),
)


def filters_asked(
    query: MultiMapping[str],
    faults: list[FieldFault],
    since: dt.datetime | None,
    until: dt.datetime | None,
    *,
    is_alone: bool,
) -> Filters:
    """What API and page spell alike; what is wrong with it is added to `faults`.

    Args:
        is_alone: There is one account alone (`store_fetch_list.is_alone`).
    """
    told = {name: query.get(name, "").strip() for name in ("outcome", "reason", "q")}
    known = OUTCOMES if is_alone else tuple(outcome for outcome in OUTCOMES if outcome != NOBODY)
    if told["outcome"] and told["outcome"] not in known:
        faults.append(FieldFault("outcome", f"Expected one of {', '.join(known)}."))
    if told["reason"] and told["reason"] not in REASONS:
        faults.append(FieldFault("reason", f"Expected one of {', '.join(REASONS)}."))
    if len(told["q"]) > MAX_TEXT or not told["q"].isprintable():
        faults.append(FieldFault("q", f"Expected at most {MAX_TEXT} printable characters."))
    is_of_nobody = told["outcome"] == NOBODY
    outcome = "" if is_of_nobody else told["outcome"]
    return Filters(outcome, told["reason"], told["q"], since, until, is_of_nobody)
