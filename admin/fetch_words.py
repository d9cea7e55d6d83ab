"""Why a request of a phone was not answered with a file, in people's words; the fetch log keeps one word for each."""

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "absent": "There is no such file, and the phone does without",
    "asset": "No file of that name was uploaded",
    "bootstrap": "It was told the URL, and nothing else, by the bootstrap",
    "certificate": "The phone's certificate was refused",
    "contradiction": "What the request says of the phone contradicts itself",
    "limited": "Too many unknown addresses were asked for from there",
    "method": "Files are read, not changed, at that address",
    "model": "The phone says it is another model than the one kept",
    "model_elsewhere": "It says it is another model, and does not ask from where the phone is",
    "path": "The address asked for is none of this phone's",
    "phone": "No phone of that MAC address is kept here",
    "plaintext": "The file leaves encrypted or over HTTPS only",
    "quarantined": "The phone is quarantined until somebody looks at it",
    "retired_token": "The URL was replaced; the phone still has the old one",
    "source": "It asked from outside the account's address ranges",
    "token": "The URL's token is none of ours",
    "unknown": "Such phones have no file of that name here",
    "vendor": "The request speaks of another vendor than the one kept",
}


def reason_words(note: str) -> str:
    """The words of a stored reason; a sentence stays what it is."""
    return REASONS.get(note, note)
