"""What the API reference says of the E911 report (pure). A part of `admin.pages.api_words`."""

from collections.abc import Mapping

_DEVICE: Mapping[str, str] = {
    "device_id": "The phone's id; of a line on no phone, the line's.",
    "key": "Which key of the phone, first key 1; null: a phone without lines, or a line on no phone.",
    "line_id": "The line on that key; empty: none.",
    "line_name": "The line's name.",
    "placement": "`fixed`, `non_fixed` or `off_premises`: the paragraph of 47 CFR § 9.16(b)(3) it falls under; empty: "
    "nobody knows.",
    "placement_by": "`said` by an administrator, `assumed` or `unknown`.",
    "placement_why": "What that rests on.",
    "verdict": "The worst of the three: `not_met`, `unknown`, `met`; `not_applicable` outside the United States.",
    "country": "Where the location is, else the account.",
    "location_id": "The location that a call would carry now, by the location engine; empty: none.",
    "location_name": "Its name.",
    "civic_address": "Its address, by element (RFC 5139).",
    "location_source": "Which source the engine takes it from; `none`: no source knows one.",
    "location_why": "What the source goes by.",
    "location_age_s": "How old its word is, in seconds; null: nobody knows.",
    "location_flags": "What a call would be marked with, such as `stale` or `disagreement`.",
    "evidence": "What each source says, in the engine's order.",
    "location_status": "`draft`, `validated` or `rejected`; empty: there is no location.",
    "validated_at": "When the address was validated as it stands; null: never.",
    "validated_by": "By which validator, or by whom; empty: nobody said.",
    "trunk": "The trunk that a call would be sent to first; empty: none is switched on.",
    "callback_number": "The number that would go with the call; empty: none is known.",
    "callback_from": "Whose number that is.",
    "dial_proof": "`proven`: every emergency number leaves at once by the dial plan last given; `faulty`; empty: no "
    "proof is kept.",
    "dial_numbers": "The numbers that were dialled on it.",
    "dial_file": "The file that holds the dial plan.",
    "dial_etag": "Its entity tag: that of the bytes that the phone was given.",
    "dial_fetched_at": "When it was given.",
    "recipients": "Who would be mailed: the account's recipients and the location's, each once.",
    "webhooks": "Webhooks that would be told.",
    "test_tried_at": "When the location was last tested with 933; null: never.",
    "test_outcome": "What that test showed.",
    "test_detail": "The same in a sentence.",
    "test_passed_at": "When one last passed with the address as it is.",
    "call_at": "When the phone or line last called an emergency or test number, among the newest 500 calls.",
    "call_kind": "`emergency` or `test`.",
    "call_outcome": "What came of it.",
    "last_fetch_at": "When the phone last fetched; null: never.",
    "phone_status": "`current`, `stale` and the like; empty: a line on no phone.",
    "direct_dialing": "47 CFR § 9.16(b)(1): its verdict.",
    "notification": "47 CFR § 9.16(b)(2): its verdict.",
    "dispatchable_location": "47 CFR § 9.16(b)(3): its verdict.",
}
_SUMMARY: Mapping[str, str] = {
    "made_at": "When this answer was made.",
    "product": "By which version.",
    "checkpoint": "Number and hash of the entry that the account's audit chain ended with; empty: it has none.",
    "checkpoint_signature": "That checkpoint's signature, in hex.",
    "counted_at": "When the count began; null: the first is still under way.",
    "devices": "How many devices were counted.",
    "verdicts": "How many of them have which verdict.",
    "direct_dialing": "The same of § 9.16(b)(1) alone.",
    "notification": "The same of § 9.16(b)(2) alone.",
    "dispatchable_location": "The same of § 9.16(b)(3) alone.",
}
_ENDINGS = {
    "_paragraph": "Which paragraph that is.", "_why": "Why, in a sentence.", "_todo": "What to do; empty: nothing.",
}  # fmt: skip
_FINDINGS = ("direct_dialing", "notification", "dispatchable_location")
FIELDS_OF_REPORT: Mapping[str, str] = {
    **{f"DeviceAnswer.{name}": words for name, words in _DEVICE.items()},
    **{f"DeviceAnswer.{name}{ending}": words for name in _FINDINGS for ending, words in _ENDINGS.items()},
    **{f"ReportSummaryAnswer.{name}": words for name, words in _SUMMARY.items()},
}
