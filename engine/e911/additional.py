"""Additional data about an emergency call (RFC 7852): who provides it, what service it is, who subscribes. Pure.

Each is a body part that a Call-Info header names. They say what we know and no more: the organisation that runs the
PBX, that it is a business's multi-line system, the caller's name and the number that calls back.
"""

from dataclasses import dataclass

from engine.e911.xml_text import escaped

BLOCKS = ("ProviderInfo", "ServiceInfo", "SubscriberInfo")
_NAMESPACE = "urn:ietf:params:xml:ns:EmergencyCallData"
_VCARD = "urn:ietf:params:xml:ns:vcard-4.0"


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the blocks are made of.

    `reference`: names this call's data, `local@domain`, the same in each block (RFC 7852 §4.1.1). `contact`: a URI
    where somebody answers who knows more, empty when there is none. `language`: of the words, such as `en`.
    """

    reference: str
    organization: str
    domain: str
    contact: str
    language: str
    name: str
    callback_number: str


def content_type_of(block: str) -> str:
    """`application/EmergencyCallData.ProviderInfo+xml` and the like."""
    return f"application/EmergencyCallData.{block}+xml"


def purpose_of(block: str) -> str:
    """The `purpose` of the Call-Info value that names the block."""
    return f"EmergencyCallData.{block}"


def write_block(block: str, facts: CallFacts) -> bytes:
    """One of `BLOCKS` as XML, its elements in the order of RFC 7852's schemas."""
    inside = f"<DataProviderReference>{escaped(facts.reference)}</DataProviderReference>{_WRITERS[block](facts)}"
    privacy = ' privacyRequested="false"' if block == "SubscriberInfo" else ""
    name = f"EmergencyCallData.{block}"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{_NAMESPACE}:{block}"{privacy}>{inside}</{name}>'
    return text.encode()


def _provider(facts: CallFacts) -> str:
    return (
        f"<DataProviderString>{escaped(facts.organization)}</DataProviderString>"
        f"<ProviderID>{escaped(facts.domain)}</ProviderID><ProviderIDSeries>domain</ProviderIDSeries>"
        "<TypeOfProvider>Other</TypeOfProvider>"
        f"<ContactURI>{escaped(facts.contact or f'sip:{facts.domain}')}</ContactURI>"
        f"<Language>{escaped(facts.language)}</Language>"
    )


def _service(_facts: CallFacts) -> str:
    return (
        "<ServiceEnvironment>Business</ServiceEnvironment><ServiceType>MLTS-local</ServiceType>"
        "<ServiceMobility>Unknown</ServiceMobility>"
    )


def _subscriber(facts: CallFacts) -> str:
    number = facts.callback_number
    telephone = f"<tel><uri>tel:{escaped(number)}</uri></tel>" if number else ""
    return (
        f'<SubscriberData xmlns="{_VCARD}"><vcard><fn><text>{escaped(facts.name or facts.organization)}</text></fn>'
        f"<org><text>{escaped(facts.organization)}</text></org>{telephone}</vcard></SubscriberData>"
    )


_WRITERS = {"ProviderInfo": _provider, "ServiceInfo": _service, "SubscriberInfo": _subscriber}
