"""P-17: what an account's own template changes of what keeps a phone reachable is told, and what would keep 911 from
being dialled is refused, in every family.
"""

from dataclasses import replace

import pytest

from engine.provisioning import override_changes, override_proof, overrides, render, vendors
from engine.provisioning.override_changes import Found, UnsafeChange
from engine.provisioning.override_proof import Read
from engine.provisioning.setting_names import MAX_KEPT, Names, Watched
from engine.provisioning.settings import AccountRecord
from engine.provisioning.vendors import FileKind, Profile

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
ACCOUNT = AccountRecord("account_1", "America/Chicago", "US", "Adm1n")


def sample(profile: Profile) -> render.PhoneConfig:
    config = overrides.sample_config(profile, next(overrides.sample_models(profile)))
    lines = tuple(replace(line, secret="hunter2") for line in config.lines)
    return replace(config, admin_password="Adm1n!word", lines=lines)


def shipped(profile: Profile) -> Read:
    """The phone's own file, or files, by the shipped templates."""
    rules = [rule for rule in overrides.own_rules(profile) if rule.template == "model"]
    text = RENDERER.render(profile, rules[0], sample(profile)).decode()
    return override_proof.read_shipped(profile, text)


def with_values(profile: Profile, file: Read, kind: Watched, value: str | None) -> Read:
    """The file with every setting of that kind at that value; None: without them."""
    names = profile.names
    told = [(name, value if names[name].watched is kind else old) for name, old in file.settings]
    return override_proof.read_settings(profile, [(name, new) for name, new in told if new is not None])


def changes(profile: Profile, own: Read) -> list[Found]:
    return override_changes.changes(profile, own, shipped(profile), sample(profile))


@pytest.mark.parametrize("vendor", PROFILES)
def test_every_family_says_where_its_phones_ask_register_and_have_their_first_line(vendor):
    """The names in a profile are those that the shipped file writes; nothing of it counts as changed."""
    profile, file = PROFILES[vendor], shipped(PROFILES[vendor])
    met = {profile.names[name].watched for name, _ in file.settings}
    assert {Watched.PROVISIONING_URL, Watched.REGISTRAR, Watched.OUTBOUND_PROXY, Watched.FIRST_LINE} - met <= (
        {Watched.OUTBOUND_PROXY} if vendor == "avaya" else set()
    )
    if vendor not in {"acrobits", "linphone"}:
        assert Watched.ADMIN_PASSWORD in met
    assert changes(profile, file) == []


@pytest.mark.parametrize("vendor", PROFILES)
@pytest.mark.parametrize(
    ("kind", "value", "is_refused"),
    [
        (Watched.REGISTRAR, "", True), (Watched.REGISTRAR, None, True), (Watched.REGISTRAR, "other.example", False),
        (Watched.OUTBOUND_PROXY, "sbc.example", False), (Watched.OUTBOUND_PROXY, None, False),
        (Watched.FIRST_LINE, "0", True), (Watched.FIRST_LINE, "", True), (Watched.FIRST_LINE, None, True),
        (Watched.PROVISIONING_URL, "https://other.example/p/x/", True), (Watched.PROVISIONING_URL, None, False),
        (Watched.ADMIN_PASSWORD, "0ther!word", False), (Watched.ADMIN_PASSWORD, None, False),
    ],
)  # fmt: skip
def test_a_change_is_told_and_one_that_costs_911_is_refused(vendor, kind, value, is_refused):
    """P-17: in every family, whatever its settings are called."""
    profile, file = PROFILES[vendor], shipped(PROFILES[vendor])
    if kind not in {profile.names[name].watched for name, _ in file.settings}:
        pytest.skip(f"the file of {vendor} says nothing of its {kind}")
    found = changes(profile, with_values(profile, file, kind, value))
    assert found
    assert {one.kind for one in found} == {kind}
    assert any(one.harm for one in found) is is_refused
    told = " ".join(one.sentence for one in found)
    assert "hunter2" not in told
    assert "Adm1n!word" not in told
    assert "0ther!word" not in told


@pytest.mark.parametrize("vendor", PROFILES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_second_setting_before_or_behind_the_first_counts_as_well(vendor, is_first):
    """P-17: phones differ in which of two they keep."""
    profile, file = PROFILES[vendor], shipped(PROFILES[vendor])
    name = next(name for name, value in file.settings if profile.names[name].watched is Watched.PROVISIONING_URL)
    second = [(name, "https://other.example/p/x/")]
    settings = [*second, *file.settings] if is_first else [*file.settings, *second]
    assert any(one.harm for one in changes(profile, override_proof.read_settings(profile, settings)))


TEXTS = {
    "yealink, a second URL behind the first": (
        "yealink", "base.cfg.j2", "auto_provision.server.url = https://other.example/", "proven by nobody",
    ),
    "yealink, in other letters": (
        "yealink", "base.cfg.j2", "Static.Auto_Provision.Server.URL = https://other.example/", "proven by nobody",
    ),
    "yealink, our name as the path of another": (
        "yealink", "base.cfg.j2", "autoprovision.1.url = https://other.example/https://phones.example.net/p/sample/",
        "proven by nobody",
    ),
    "yealink, the first line off at the end": (
        "yealink", "base.cfg.j2", "account.1.enable = 0", "With its first line off",
    ),
    "yealink, a lifted handset": ("yealink", "base.cfg.j2", "features.hotline_number = 555", "Nobody could dial 911"),
    "yealink, a lifted handset, the number in the phone": (
        "yealink", "base.cfg.j2", "features.hotline_delay = 4", "Nobody could dial 911",
    ),
    "grandstream, in small letters": (
        "grandstream", "grp.xml.j2",
        ("</config>", '<item name="call.dial.offhook.autodial.number">555</item></config>'), "Nobody could dial 911",
    ),
    "grandstream, the other account goes nowhere": (
        "grandstream", "grp.xml.j2",
        ("{{ line.registrar_host | host_port(line.registrar_port) }}", "{{ 'pbx' if line.number == 1 }}"),
        "Without a registrar",
    ),
    "cisco_mpp, a second rule": (
        "cisco_mpp", "base.xml.j2",
        ("</flat-profile>", "<Profile_Rule_B>https://other.example/$MA.xml</Profile_Rule_B></flat-profile>"),
        "proven by nobody",
    ),
    "cisco_spa, does not register": (
        "cisco_spa", "base.xml.j2", ("<Register{{ n }}>Yes<", "<Register{{ n }}>No<"), "With its first line off",
    ),
    "poly, a call when it is lifted": (
        "poly", "base.cfg.j2",
        ("<dialplan ", '<call call.autoOffHook.1.enabled="1" call.autoOffHook.1.contact="555"/><dialplan '),
        "Nobody could dial 911",
    ),
    "mitel, over plain HTTP, elsewhere": ("mitel", "base.cfg.j2", "http server: other.example", "proven by nobody"),
    "htek, a hotline by its name": (
        "htek", "base.xml.j2", ("</config>", '<P8637 para="Hotline.Number">555</P8637></config>'),
        "Nobody could dial 911",
    ),
    "fanvil, a hotline": (
        "fanvil", "base.xml.j2",
        ("<EnableReg>1<", "<EnableHotline>1</EnableHotline><HotlineNum>5</HotlineNum><EnableReg>1<"),
        "Nobody could dial 911",
    ),
}  # fmt: skip


def examined(vendor: str, template: str, change: str | tuple[str, str]) -> overrides.Examined:
    text = PROFILES[vendor].templates[template]
    body = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert body != text
    return overrides.examine(RENDERER, PROFILES[vendor], {template: body}, template, (), ACCOUNT)


@pytest.mark.parametrize("case", TEXTS.values(), ids=TEXTS)
def test_a_text_that_would_keep_911_from_being_dialled_is_not_published(case):
    """P-17: the sentence names the text, the setting, what it becomes and what to do."""
    vendor, template, change, told = case
    faults = examined(vendor, template, change).faults
    assert told in " ".join(faults)
    assert template in faults[0]


ALLOWED = {
    "an emergency hotline": ("yealink", "base.cfg.j2", "features.hotline_number = 911\nfeatures.hotline_delay = 4"),
    "a registrar of one's own": (
        "yealink", "base.cfg.j2",
        ("sip_server.1.address = {{ line.registrar_host }}", "sip_server.1.address = own.example"),
    ),
    "an emergency call when it is lifted": (
        "poly", "base.cfg.j2",
        ("<dialplan ", '<call call.autoOffHook.1.enabled="1" call.autoOffHook.1.contact="911@pbx"/><dialplan '),
    ),
    "a password of its own": (
        "yealink", "base.cfg.j2", "static.security.user_password = admin:{{ config.lines[0].secret }}x",
    ),
    "a file of another name below the same URL": (
        "cisco_mpp", "base.xml.j2", ("$MA.xml</Profile_Rule>", "$MA.cfg</Profile_Rule>"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED.values(), ids=ALLOWED)
def test_a_change_that_leaves_911_alone_is_told_and_may_be_published(case):
    found = examined(*case)
    assert found.faults == ()
    assert found.warnings
    assert all(case[1] in warning for warning in found.warnings)


def test_no_secret_of_a_phone_is_in_a_sentence():
    """A text that writes a line's secret where a host stands shows it to nobody."""
    profile = PROFILES["yealink"]
    body = profile.templates["base.cfg.j2"] + "account.1.sip_server.1.address = {{ config.lines[0].secret }}.example\n"
    rule = next(rule for rule in profile.files if rule.template == "model")
    _, found = RENDERER.tried(profile, rule, sample(profile), {"base.cfg.j2": body})
    assert "[secret].example" in found[0].sentence
    assert "hunter2" not in str(found)
    pinned = profile.templates["base.cfg.j2"] + "features.key_as_send = {{ config.lines[0].secret }}\n"
    with pytest.raises(render.UnsafeDialPlan, match=r"\[secret\]"):
        RENDERER.render(profile, rule, sample(profile), {"base.cfg.j2": pinned})


def test_a_text_that_is_good_for_the_samples_is_refused_for_the_phone_whose_line_it_takes():
    """P-17: what was tried at publishing is asked again for each phone."""
    profile = PROFILES["yealink"]
    body = profile.templates["base.cfg.j2"] + "{% if config.label == 'Lobby' %}\naccount.1.enable = 0\n{% endif %}\n"
    own = {"base.cfg.j2": body}
    assert overrides.examine(RENDERER, profile, own, "base.cfg.j2", (), ACCOUNT).faults == ()
    rule = next(rule for rule in profile.files if rule.template == "model")
    with pytest.raises(UnsafeChange, match=r"own base\.cfg\.j2 .*account\.1\.enable"):
        RENDERER.render(profile, rule, replace(sample(profile), label="Lobby"), own)


GOOD = "{% include 'base.cfg.j2' %}\n"
BAD = {
    "the text": lambda config: (config, GOOD + "dialplan.digitmap.enable = 1\n"),
    "the phone's label": lambda config: (replace(config, label="Lobby"), None),
    "a second line": lambda config: (replace(config, lines=(*config.lines, replace(config.lines[0], number=3))), None),
    "the secret of a line": lambda config: (
        replace(config, lines=(replace(config.lines[0], secret="slow"), *config.lines[1:])), None,
    ),
    "the emergency numbers": lambda config: (replace(config, emergency_numbers=("112", "911")), None),
    "the model": lambda config: (replace(config, model="T33G"), None),
    "the provisioning URL": lambda config: (replace(config, provisioning_url="https://b.example/p/x/"), None),
}  # fmt: skip
TRAP = """{% include 'base.cfg.j2' %}
{% if config.label == 'Lobby' or config.lines | length > 2 or config.lines[0].secret == 'slow' or config.model == 'T33G'
   or '112' in config.emergency_numbers or 'b.example' in config.provisioning_url %}
dialplan.dialnow.rule.1 = 9xxxxxx
{% endif %}
"""


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_whatever_a_text_may_ask_of_a_phone_is_seen_anew_at_each_rendering(case):
    """P-17, P-08: nothing that was proven for one phone stands for another, nor an older text's proof for a newer."""
    profile = PROFILES["yealink"]
    rule = next(rule for rule in profile.files if rule.template == "model")
    good = overrides.sample_config(profile, "T46U")
    for _ in range(3):  # what is kept is kept by now
        assert RENDERER.render(profile, rule, good, {"dect.cfg.j2": "", "base.cfg.j2": TRAP})
    config, text = case(good)
    with pytest.raises(render.UnsafeDialPlan):
        RENDERER.render(profile, rule, config, {"dect.cfg.j2": "", "base.cfg.j2": text or TRAP})
    assert RENDERER.render(profile, rule, good, {"dect.cfg.j2": "", "base.cfg.j2": TRAP})


def test_another_profile_of_the_same_name_is_read_by_its_own_words_and_its_own_templates():
    """Nothing is kept under a family's name alone."""
    profile = PROFILES["yealink"]
    rule = next(rule for rule in profile.files if rule.template == "model")
    config, own = overrides.sample_config(profile, "T46U"), {"boot.j2": profile.templates["boot.j2"]}
    RENDERER.render(profile, rule, config, own)
    slow = dict(profile.templates)
    slow["dialing.cfg.j2"] = "dialplan.dialnow.rule.1 = 9xxxxxx\n"
    for texts in ({}, own):
        with pytest.raises(render.UnsafeDialPlan):
            RENDERER.render(replace(profile, templates=slow), rule, config, texts)
    ringing = {"base.cfg.j2": profile.templates["base.cfg.j2"] + "phone_setting.ring_type = Ring2.wav\n"}
    assert RENDERER.render(profile, rule, config, ringing)
    pinned = replace(profile, pinned=render.re.compile(r"phone_setting\.ring_type"))
    with pytest.raises(render.UnsafeDialPlan, match="ring_type"):
        RENDERER.render(pinned, rule, config, ringing)


def test_names_are_forgotten_when_a_stranger_makes_up_too_many():
    names = Names(None, None, None, {})
    for number in range(3 * MAX_KEPT):
        assert names[f"made.up.{number}"].watched is None
    assert len(names) <= MAX_KEPT
    names["x" * 10_000]
    assert all(len(name) < 200 for name in names)


@pytest.mark.parametrize("names", [("dialplan", "earlydial"), ("dialPlan", "EarlyDial"), ("dialplan", "earlyDial")])
def test_grandstream_items_are_judged_in_either_spelling(names):
    """P-08: phones read `earlyDial` and `earlydial`; a plan in other letters is judged, not passed over."""
    profile = PROFILES["grandstream"]
    plan, early = names
    items = f'<item name="account.1.call.{plan}">{{ 911 }}</item><item name="account.1.call.{early}">Yes</item>'
    text = f"<gs_provision><config>{items}</config></gs_provision>"
    with pytest.raises(render.UnsafeDialPlan, match="early dial sends 9"):
        render.refuse_slow_emergency(profile, text, ("911",), (1,))
    render.refuse_slow_emergency(profile, text.replace(">Yes<", ">No<"), ("911",), (1,))


@pytest.mark.parametrize("order", [("9", ""), ("", "9")])
def test_a_prefix_in_two_spellings_counts_in_whichever_order(order):
    """P-08: of two spellings of one setting the phone may keep either."""
    first, second = order
    items = (
        '<item name="account.1.call.dialplan">{ 911 }</item>'
        f'<item name="account.1.call.dialplanPrefix">{first}</item>'
        f'<item name="account.1.call.dialplanprefix">{second}</item>'
    )
    with pytest.raises(render.UnsafeDialPlan, match="rewritten"):
        render.refuse_slow_emergency(PROFILES["grandstream"], f"<a><config>{items}</config></a>", ("911",), (1,))


def test_the_boot_file_is_compared_as_before():
    profile = PROFILES["yealink"]
    rule = next(rule for rule in profile.files if rule.kind is FileKind.BOOT and rule.template)
    text = profile.templates[rule.template] + "include:config <slow.cfg>\n"
    with pytest.raises(render.UnsafeDialPlan, match="which files follow"):
        RENDERER.render(profile, rule, sample(profile), {rule.template: text})
