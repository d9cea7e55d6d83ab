"""What a tested model is served, byte for byte. `python -m tests.golden.rewrite` writes the files anew."""

import pytest

from engine.provisioning import vendors
from engine.provisioning.vendors import Support
from tests.golden import phones_page
from tests.golden.samples import ROOT, rendered

RENDERED = rendered()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_tested_model_gets_exactly_the_golden_file(path):
    """P-06, P-07: support "tested" means these bytes."""
    assert RENDERED[path] == path.read_bytes()


def test_no_golden_file_is_left_over():
    assert sorted(path for path in ROOT.rglob("*") if path.is_file()) == sorted(RENDERED)


@pytest.mark.parametrize("profile", vendors.load().profiles.values(), ids=lambda profile: profile.name)
def test_at_least_four_models_of_each_vendor_are_tested(profile):
    assert sum(model.support is Support.TESTED for model in profile.models.values()) >= 4


def test_the_page_of_phones_lists_every_model_with_its_grade():
    """P-06: docs/phones.md is what the profiles say; at least 150 models."""
    told = phones_page.PATH.read_text()
    assert told == phones_page.page(), "write it anew: python -m tests.golden.rewrite"
    rows = [row for row in told.splitlines() if row.startswith("| ") and row.count("|") == 4]
    assert len(rows) - 18 >= 150
