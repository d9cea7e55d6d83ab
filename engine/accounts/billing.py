"""The billing address of an account: for invoices alone, and never sent with a call."""

from collections.abc import Mapping

from engine.countries import is_country
from engine.errors import FieldFault

BILLING_FIELDS = ("name", "street", "city", "state", "postal_code", "country")
MAX_CHARACTERS = 200
MAX_POSTAL_CHARACTERS = 20  # the longest in use has 10: 12203-1234


def plain_billing(address: Mapping[str, str]) -> dict[str, str]:
    """The address as it is kept: no space around a part, no empty part, the country in capitals."""
    plain = {name: text.strip() for name, text in address.items()}
    if "country" in plain:
        plain["country"] = plain["country"].upper()
    return {name: text for name, text in plain.items() if text}


def billing_faults(address: Mapping[str, str]) -> list[FieldFault]:
    """Every fault of a plain billing address; all its parts may be left out."""
    faults = []
    for name, text in address.items():
        if name not in BILLING_FIELDS:
            detail = f"No such field. Expected {', '.join(BILLING_FIELDS)}."
        elif name == "country":
            detail = "" if is_country(text) else "Expected two letters of ISO 3166, such as US."
        else:
            most = MAX_POSTAL_CHARACTERS if name == "postal_code" else MAX_CHARACTERS
            fits = len(text) <= most and text.isprintable()
            detail = "" if fits else f"Expected one line of at most {most} printable characters."
        if detail:
            faults.append(FieldFault(f"billing_address.{name}", detail))
    return faults
