"""What doctor says of location references and of the validator."""

import pytest

from engine import config as configuration
from engine.config import Config
from engine.doctor.location import reference_findings, validator_findings
from engine.models import Trunk


def loaded(**keys: str) -> Config:
    return configuration.load(None, {f"CALLPOINT_{name}": value for name, value in keys.items()})


@pytest.mark.parametrize(
    ("mode", "url", "said"),
    [
        ("reference", "", "by value instead of `reference`"),
        ("both", "", "public_url is empty"),
        ("both", "http://phones.example.net", "not https"),
        ("both", "https://phones.example.net", None),
        ("value", "", None),
        ("none", "", None),
    ],
)
def test_a_trunk_that_wants_references_needs_an_address_to_serve_them_at(mode, url, said):
    """E-13: told before the first call, which then goes by value."""
    trunk = Trunk(id="trunk_1", name="Carrier", host="127.0.0.1", location_mode=mode)
    findings = reference_findings("trunk", trunk, loaded(PROVISIONING__PUBLIC_URL=url))
    assert [said in finding.detail for finding in findings] == ([True] if said else [])


async def test_no_validator_is_no_finding():
    assert await validator_findings(loaded()) == []


@pytest.mark.enable_socket
async def test_a_validator_that_does_not_answer_is_told():
    (finding,) = await validator_findings(loaded(E911__LOST_URL="http://127.0.0.1:9/lost"))
    assert finding.level == "warning"
    assert "No 911 call waits for it" in finding.detail


@pytest.mark.parametrize("url", ["lost.example.com", "ftp://lost.example.com", "https://"])
def test_a_lost_url_that_is_none_is_refused_at_the_start(url):
    with pytest.raises(configuration.ConfigFault, match="LoST server"):
        loaded(E911__LOST_URL=url)
