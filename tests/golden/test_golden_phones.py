"""What a tested model is served, byte for byte. `python -m tests.golden.rewrite` writes the files anew."""

import pytest

from engine.provisioning import vendors
from engine.provisioning.vendors import Support
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
