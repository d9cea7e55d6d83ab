"""Makers and models as people call them."""

import itertools

import pytest

from admin.pages.phone_new import makers
from admin.pages.phones import model_choices
from admin.phone_names import model_name
from engine.provisioning import vendors


@pytest.mark.parametrize(
    ("vendor", "model", "said"),
    [
        ("yealink", "T46U", "Yealink T46U"),
        ("acrobits", "Acrobits Softphone", "Acrobits Softphone"),
        ("acrobits", "Groundwire", "Acrobits Groundwire"),
        ("cisco_spa", "SPA525G2", "Cisco SPA525G2"),
        ("cisco_mpp", "8851", "Cisco MPP 8851"),
        ("no_such", "X1", "No Such X1"),
    ],
)
def test_a_model_is_named_with_each_word_once(vendor: str, model: str, said: str) -> None:
    """S1-40: no Acrobits Acrobits Softphone, no stored name with an underscore."""
    assert model_name(vendor, model) == said


def test_no_model_in_a_menu_is_doubled() -> None:
    """S1-40: of every maker and model that is known."""
    names = [name for _value, name in model_choices()]
    assert len(names) == len(set(names)) > 400
    assert names == [name for _title, _blocks, models in makers() for _value, name in models]
    for name in names:
        words = name.lower().split()
        assert all(one != other for one, other in itertools.pairwise(words)), name
    assert all(
        profile.title in {title for title, _blocks, _models in makers()}
        for profile in vendors.known().profiles.values()
    )
