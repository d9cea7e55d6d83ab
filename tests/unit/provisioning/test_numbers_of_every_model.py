"""P-08, P-09: what must leave at once, read back from the file of every served model of every family."""

import dataclasses
import itertools

import pytest

from engine.numbers import PACKS, numbers_of
from engine.provisioning import dialplan, render, vendors
from engine.provisioning.dialplan import Completion
from engine.provisioning.settings import emergency_numbers
from tests.golden.samples import config

KNOWN = vendors.known()
RENDERER = render.Renderer(KNOWN)
COUNTRIES = ("US", "GB", "DE", "AU")  # 911 and 933; 112 and 999; 112; 000, 106 and 112
NOTHING_TYPED = {"gigaset", "linphone", "acrobits", "algo", "none"}  # grammars that may have no plan to read


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("profile", KNOWN.profiles.values(), ids=lambda profile: profile.name)
def test_every_emergency_number_with_and_without_a_nine_is_immediate_on_every_served_model(profile, country):
    """P-08: the numbers of the country's pack, its test numbers, and each emergency number behind a 9."""
    numbers = emergency_numbers(country, with_prefix=True)
    behind = {"9" + one for one in numbers_of(country).emergency} - {"9999"}  # 999 leaves before its last digit
    assert behind <= set(numbers)
    assert "9999" not in numbers
    rule = next(rule for rule in profile.files if rule.template == "model")
    served = [model for model in profile.models.values() if model.template is not None]
    assert served
    for model in served:
        phone = dataclasses.replace(
            config(profile, model.name, 0), emergency_numbers=numbers, is_nanp=country in render.NANP_COUNTRIES
        )
        text = RENDERER.drawn(profile, rule, phone).decode()
        settings = dict(render.dial_settings(profile, text))
        for number in numbers:
            found = dialplan.verdicts(profile.dial_plan, settings, number)
            assert found or profile.dial_plan in NOTHING_TYPED, (model.name, number)
            late = {name: one.why for name, one in found.items() if one.completion is not Completion.IMMEDIATE}
            assert not late, (model.name, number, late)


def test_a_yealink_that_reads_both_files_keeps_no_dial_now_rule_of_another_country():
    """P-08: older firmware reads the common file of the account's country and then its own: what the own file does not
    name would stand, and French 18 would leave before British 18000 is dialled.
    """
    profile = KNOWN.profiles["yealink"]
    base = config(profile, "T46U", 0)
    read: dict[str, dict[str, dict[str, str]]] = {"common": {}, "device": {}}
    countries = sorted(max(pack.countries) for pack in PACKS)  # of US and CA, US
    for country in countries:
        numbers = emergency_numbers(country, with_prefix=True)
        phone = dataclasses.replace(base, emergency_numbers=numbers, is_nanp=country in render.NANP_COUNTRIES)
        for kind, files in read.items():
            rule = next(rule for rule in profile.files if rule.kind == kind)
            files[country] = dict(render.dial_settings(profile, RENDERER.drawn(profile, rule, phone).decode()))
    for kind, files in read.items():
        for country, written in files.items():
            indexes = [name for name in written if ".dialnow.rule." in name]
            assert len(indexes) == 16, (kind, country, "every index that some country uses is named")
    for account, own in itertools.permutations(countries, 2):
        merged = read["common"][account] | read["device"][own]
        for number in emergency_numbers(own, with_prefix=True):
            (verdict,) = dialplan.verdicts(profile.dial_plan, merged, number).values()
            assert verdict.completion is Completion.IMMEDIATE, (account, own, number, verdict.why)
