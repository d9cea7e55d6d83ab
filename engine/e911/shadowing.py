"""What of an account has a number that is an emergency where one of its places is: a line, a PBX's default route, a
trunk's test number. Pure.

Each of them is refused when it is entered after the place. A place is not: an address that is not kept helps nobody.
So whichever way a place came to another country (its address, an import, a merge, the account's own country), it is
told for as long as it stands.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.models import Line, Pbx, Trunk
from engine.numbers import NumberPack, numbers_of, plain_digits, shadowed_emergency_number

Places = Mapping[str, Sequence[str]]
"""The names of the places in each country (ISO 3166 alpha-2)."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """`text`: who has which number, what that means where it is dialled, and what to do; `href`: where that is done."""

    text: str
    action: str
    href: str


def forms_of(country: str) -> frozenset[str]:
    """Whatever is dialled in that country and is an emergency or a test there."""
    pack = numbers_of(country)
    return pack.emergency_forms | pack.test_forms | pack.also_reserved


def shadows_of(places: Places, lines: Iterable[Line], pbxs: Iterable[Pbx], trunks: Iterable[Trunk]) -> list[Shadow]:
    """Of each line, PBX and trunk that has such a number.

    Args:
        lines: Those that may have one; others are left out.
    """
    found = [_of_line(line, places) for line in lines]
    found += [_of_route(pbx, places) for pbx in pbxs]
    found += [_of_test(trunk, places) for trunk in trunks]
    return [shadow for shadow in found if shadow is not None]


def _of_line(line: Line, places: Places) -> Shadow | None:
    for number in (line.extension, line.sip_user):
        countries = [country for country in places if number in forms_of(country)]
        if countries:
            name = f" ({line.display_name})" if line.display_name else ""
            text = (
                f"Line {line.extension}{name} has {number}, a number for emergencies in {_where(countries, places)}: "
                "whoever dials it there calls responders and never reaches that line, and from a phone whose place is "
                "not known, somebody who needs help reaches that line instead. Give it another extension and SIP user."
            )
            return Shadow(text, "See the line", f"/lines/{line.id}")
    return None


def _of_route(pbx: Pbx, places: Places) -> Shadow | None:
    user = (pbx.default_route or "").partition(":")[2].rpartition("@")[0]
    countries = [country for country in places if user and shadowed_emergency_number(user, country)]
    if not countries:
        return None
    text = (
        f"The default route of {pbx.name} leads to {user}, a number for emergencies in {_where(countries, places)}: "
        "calls that are no emergency would go to responders. Leave it out of the route."
    )
    return Shadow(text, "See the PBX", f"/settings/pbxs/{pbx.id}")


def _of_test(trunk: Trunk, places: Places) -> Shadow | None:
    number = plain_digits(trunk.test_number or "")
    countries = [country for country in places if number and number in _emergencies(numbers_of(country))]
    if not countries:
        return None
    text = (
        f"The test number of trunk {trunk.name}, {number}, is one for emergencies in {_where(countries, places)}: test "
        "calls by that trunk would ring at responders. Enter the number that its carrier has for tests."
    )
    return Shadow(text, "See the trunk", f"/settings/trunks/{trunk.id}")


def _emergencies(pack: NumberPack) -> frozenset[str]:
    return pack.emergency_forms | pack.also_reserved


def _where(countries: Sequence[str], places: Places) -> str:
    """`NZ (Wellington)`: each country with up to two of its places."""
    told = []
    for country in countries:
        names = places[country]
        more = f" and {len(names) - 2:,} more" if len(names) > 2 else ""
        told.append(f"{country} ({', '.join(names[:2])}{more})" if names else country)
    return " and ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else told[0]
