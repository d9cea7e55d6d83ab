"""Which devices the report is asked for, read from the address: one set of names for the API and the page."""

from collections.abc import Mapping

from admin.routes import Query
from engine.accounts.store import is_id
from engine.e911.compliance import Verdict
from engine.e911.compliance_list import NO_LOCATION, Filters
from engine.errors import FieldFault, Invalid

VERDICTS = tuple(verdict.value for verdict in Verdict)
QUERIES = (
    Query("verdict", {"enum": list(VERDICTS)}, "Only devices with that verdict: the worst of their three paragraphs."),
    Query(
        "location_id", {"type": "string"},
        f"Only devices whose calls would carry this location now; `{NO_LOCATION}`: none at all.",
    ),
    Query("phone_id", {"type": "string"}, "Only this phone, key by key."),
)  # fmt: skip
FILTERS = tuple(query.name for query in QUERIES)


def api_filters(query: Mapping[str, str]) -> Filters:
    """The filters.

    Raises:
        Invalid: every value that cannot be read.
    """
    faults: list[FieldFault] = []
    verdict, location, phone = (query.get(name) for name in FILTERS)
    if verdict is not None and verdict not in VERDICTS:
        faults.append(FieldFault("verdict", f"Expected one of {', '.join(VERDICTS)}."))
    if location is not None and location != NO_LOCATION and not is_id(location):
        faults.append(FieldFault("location_id", f"Expected a location's id, or {NO_LOCATION}."))
    if phone is not None and not is_id(phone):
        faults.append(FieldFault("phone_id", "Expected a phone's id."))
    if faults:
        raise Invalid("Some filters cannot be read.", fields=tuple(faults))
    return Filters(verdict or "", location or "", phone or "")
