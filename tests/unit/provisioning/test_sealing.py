"""Which files leave encrypted, and what the configuration writes that hands a phone its key."""

import json
import re

import pytest

from engine.provisioning import envelope, sealing, vendors
from engine.provisioning.envelope import Scheme
from engine.provisioning.policy import Policy
from engine.provisioning.render import Renderer, served_names
from engine.provisioning.sealing import Manner
from engine.provisioning.settings import MASK
from engine.provisioning.vendors import Mac, Profile
from tests.golden import samples

KEY = "Jt1h5Yk0dTz8rH3mUq2wXcVbNaLpEoIyGf7KsR4e6Zg"
PROFILES = vendors.known().profiles
SEALED = [profile for profile in PROFILES.values() if profile.encryption is not None]
LISTS = {"yealink": "Yealink", "grandstream": "Grandstream (P-values: HT, GXP, GRP, GXV; gs_provision XML v1, v2)"}


def own_file(profile: Profile, model: str, *, key: str = KEY) -> str:
    config = sealing.keyed(samples.config(profile, model, 1), profile, key, mask=MASK)
    for name in served_names(profile, Mac(config.mac), model):
        rule = profile.file_rule(name)
        if rule is not None and sealing.is_sealable(profile, rule):
            return Renderer(vendors.known()).render(profile, rule, config).decode()
    raise AssertionError(f"{model} has no file of its own")


def models() -> list[tuple[Profile, str]]:
    """One model of each template of the families that decrypt."""
    found = {}
    for profile in SEALED:
        for model in profile.models.values():
            if model.template is not None:
                found.setdefault((profile.name, model.template), (profile, model.name))
    return list(found.values())


@pytest.mark.parametrize(("profile", "model"), models(), ids=lambda each: getattr(each, "name", each))
def test_the_configuration_hands_the_phone_its_key_and_the_url_that_goes_with_it(profile: Profile, model: str) -> None:
    """P-12: both at once, so that a phone asks for encrypted files exactly when it can open them."""
    text = own_file(profile, model)
    assert profile.encryption is not None
    assert envelope.phone_key(profile.encryption, KEY) in text
    assert "/sealed" in text
    assert KEY not in text
    plain = own_file(profile, model, key="")
    assert "/sealed" not in plain
    added = set(text.splitlines()) - set(plain.splitlines())
    names = {name for line in added for name in re.findall(r'^(?:<item name="|<N>|<|)([\w.]+)', line)}
    names |= {name for line in added for name in re.findall(r"<N>(\w+)</N>", line)}
    assert names & {"static.auto_provision.aes_key.mac", "P1359", "provisioning.config.filePassword", "GPP_SA", "SPRM0"}


def test_every_setting_of_a_key_is_one_its_family_has(cases) -> None:
    """P-12: those that collected templates write; the others stand in the makers' guides that the profiles name."""
    known = json.loads((cases / "vendor_keys.json").read_text())
    assert {"static.auto_provision.aes_key.mac", "static.auto_provision.aes_key_16.mac"} <= set(
        known[LISTS["yealink"]]["known_keys"]
    )
    assert {"P1359", "provisioning.config.filePassword"} <= set(known[LISTS["grandstream"]]["known_keys"])


def test_a_page_shows_that_there_is_a_key_and_not_which() -> None:
    """P-23: masked, the file still says where the phone asks."""
    text = own_file(PROFILES["yealink"], "T46U", key=MASK)
    assert f"static.auto_provision.aes_key.mac = {MASK}" in text
    assert "/sealed/" in text


def test_a_family_whose_format_is_not_known_is_left_alone() -> None:
    """P-12: Poly, Snom and the others: no key, no other URL, whatever the policy says."""
    poly = PROFILES["poly"]
    config = samples.config(poly, "VVX 450", 1)
    assert sealing.keyed(config, poly, KEY, mask=MASK) is config
    rule = poly.file_rule("64167faabb02.cfg")
    assert rule is not None
    assert not sealing.is_too_open(Policy(encrypt_files=True), poly, rule, is_sealed=False, is_tls=False)


@pytest.mark.parametrize(
    ("name", "is_sealed", "is_tls", "too_open"),
    [
        ("805ec0aabb01.cfg", False, False, True),
        ("805ec0aabb01.cfg", False, True, False),
        ("805ec0aabb01.cfg", True, False, False),
        ("805ec0aabb01.boot", False, False, False),
        ("y000000000108.cfg", False, False, False),
    ],
)
def test_in_clear_a_phone_s_own_file_leaves_over_tls_alone(
    name: str, is_sealed: bool, is_tls: bool, too_open: bool
) -> None:
    """P-12: files without a secret leave as ever."""
    yealink = PROFILES["yealink"]
    rule = yealink.file_rule(name)
    assert rule is not None
    judged = sealing.is_too_open(Policy(encrypt_files=True), yealink, rule, is_sealed=is_sealed, is_tls=is_tls)
    assert judged is too_open
    assert not sealing.is_too_open(Policy(), yealink, rule, is_sealed=is_sealed, is_tls=is_tls)


@pytest.mark.parametrize(
    ("accepts", "scheme"),
    [
        ("", Scheme.OPENSSL),
        ("gzip, deflate", Scheme.OPENSSL),
        ("gzip, AES128GCM;q=0.9", Scheme.AES128GCM),
        ("aes128gcm", Scheme.AES128GCM),
    ],
)
def test_rfc_8188_is_for_whoever_says_that_it_reads_it(accepts: str, scheme: Scheme) -> None:
    """P-12: RFC 9110 §12.5.3; a family without it is never sent it."""
    assert sealing.scheme_for(PROFILES["cisco_mpp"], accepts) is scheme
    assert sealing.scheme_for(PROFILES["cisco_spa"], accepts) is Scheme.OPENSSL
    assert sealing.scheme_for(PROFILES["poly"], accepts) is None


def test_a_file_without_a_key_to_seal_it_is_not_sent() -> None:
    """P-12: never in clear where it was asked for encrypted."""
    assert Manner(is_sealed=True, scheme=Scheme.OPENSSL).seal(b"x", "") is None
    assert Manner(is_sealed=True).seal(b"x", KEY) == b"x"
    assert Manner(is_sealed=False).headers == {}
