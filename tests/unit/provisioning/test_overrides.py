"""P-17: a text is tried before it is published; what is wrong is told with line, number, rule and remedy."""

import pytest

from engine.provisioning import overrides, render, settings, vendors
from engine.provisioning.sandbox import MAX_SOURCE
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
ACCOUNT = AccountRecord("account_1", "America/Chicago", "US", "Adm1n")
LINE = LineRecord(1, "101", "Zoë", "101", "", "s3cret", "pbx.example.net", 5060, "udp", "pbx")


def examine(vendor: str, name: str, body: str, *phones: PhoneRecord, **others: str) -> overrides.Examined:
    texts = {**{key.replace("_", "."): text for key, text in others.items()}, name: body}
    return overrides.examine(RENDERER, PROFILES[vendor], texts, name, phones, ACCOUNT)


def phone(**changed: object) -> PhoneRecord:
    fields = {"account": ACCOUNT, "phone_id": "phone_1", "mac": "805ec0aabb01", "vendor": "yealink", "model": "T46U"}
    fields |= {"label": "Lobby", "timezone": "", "settings": settings.DEFAULTS, "lines": (LINE,)}
    return PhoneRecord(**fields | changed)


@pytest.mark.parametrize("name", PROFILES)
def test_the_made_up_phone_of_each_family_is_served_every_file_by_the_shipped_templates(name):
    """A sample that the shipped templates refuse would prove nothing."""
    profile = PROFILES[name]
    models = list(overrides.sample_models(profile))
    assert models
    for model in models:
        config = overrides.sample_config(profile, model)
        for rule in overrides.own_rules(profile):
            assert RENDERER.render(profile, rule, config)


def test_an_unquoted_attribute_a_comment_and_a_name_let_a_value_become_a_second_setting():
    """P-11: each is refused with the value's name; the same value inside quotes is good."""
    shipped = PROFILES["grandstream"].templates["grp.xml.j2"]
    assert "</gs_provision>" in shipped
    for text, guilty in (
        ("<x a={{ config.label }}/>", "no XML: not well-formed"),
        ("<x {{ config.lines[0].sip_user }}='1'/>", "no XML: not well-formed"),
        ("<{{ config.label }}>1</{{ config.label }}>", "config.label"),
        ("<x a{{ config.lines[0].secret }}='1'/>", "config.lines.secret"),
        ("<!-- {{ config.admin_password }} --><x/>", ""),
        ('<x a="{{ config.label }}">{{ config.lines[0].secret }}</x>', ""),
    ):
        found = examine("grandstream", "grp.xml.j2", shipped.replace("</gs_provision>", text + "</gs_provision>"))
        assert [guilty in fault for fault in found.faults] == ([True] if guilty else []), text


def test_a_value_that_begins_a_line_of_a_text_file_is_refused():
    found = examine(
        "yealink",
        "time.cfg.j2",
        "{% include 'time.cfg.j2' %}\n{% for line in config.lines %}\n{{ line.secret }} = 1\n{% endfor %}\n",
    )
    assert "config.lines.secret" in found.faults[0]


def test_a_plan_that_delays_911_is_refused_with_the_number_and_what_to_do():
    found = examine("yealink", "dialing.cfg.j2", "dialplan.dialnow.rule.1 = xxxxxxx\n")
    assert found.faults
    assert all("911" in fault for fault in found.faults[:1])
    assert "Correct the template" in found.faults[0]


def test_the_account_s_own_phones_are_tried_and_named():
    body = "{% include 'time.cfg.j2' %}\n{{ 1 // 0 if config.label == 'Lobby' }}\n"
    assert examine("yealink", "time.cfg.j2", body).faults == ()
    found = examine("yealink", "time.cfg.j2", body, phone())
    assert found.line == 2
    assert "line 2 of time.cfg.j2" in found.faults[0]


@pytest.mark.parametrize(
    "broken",
    ["{{ config.lines[40].secret }}", "{{ config.nonsense }}", "{% for a in range(99999) %}{{ a }}{% endfor %}"],
)
def test_a_text_that_fails_for_one_model_alone_is_refused_whoever_has_that_model(broken):
    """P-17: every model is tried, also those the account has no phone of yet; the model is named."""
    yealink = PROFILES["yealink"]
    alone = [name for name in yealink.models if name not in set(overrides.sample_models(yealink))][-1]
    text = "{% include 'time.cfg.j2' %}\n{% if config.model == '" + alone + "' %}" + broken + "{% endif %}\n"
    found = examine("yealink", "time.cfg.j2", text, phone())
    assert len(found.faults) >= 1
    assert not examine("yealink", "time.cfg.j2", text.replace(alone, "T999"), phone()).faults


def test_what_the_shipped_templates_fail_at_too_is_no_fault_of_the_text():
    found = examine("yealink", "time.cfg.j2", "{% include 'time.cfg.j2' %}\n", phone(label="two\nlines"))
    assert found.faults == ()


def test_a_file_without_the_provisioning_url_is_warned_of_and_not_refused():
    shipped = PROFILES["yealink"].templates["base.cfg.j2"]
    line = "static.auto_provision.server.url = {{ config.provisioning_url }}\n"
    assert line in shipped
    found = examine("yealink", "base.cfg.j2", shipped.replace(line, ""))
    assert found.faults == ()
    assert "provisioning URL" in found.warnings[0]


def test_a_file_that_names_another_server_is_refused_and_the_token_is_not_told():
    """P-17: what another server hands out is proven by nobody."""
    shipped = PROFILES["yealink"].templates["base.cfg.j2"]
    found = examine("yealink", "base.cfg.j2", shipped.replace("{{ config.provisioning_url }}", "http://elsewhere/"))
    assert "'http://elsewhere/' in this one" in found.faults[0]
    assert "Write {{ config.provisioning_url }} there." in found.faults[0]
    assert "/p/[token]/" in found.faults[0]


def test_a_text_is_tried_beside_the_account_s_other_templates():
    body = "{% include 'time.cfg.j2' %}\n"
    assert examine("yealink", "common.cfg.j2", body, time_cfg_j2="x = {{ config.mac }}\n").tried > 0
    broken = examine("yealink", "common.cfg.j2", body, time_cfg_j2="{{ config.nosuch }}")
    assert "time.cfg.j2" in broken.faults[0]


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("nosuch.j2", "x", "there are"), ("time.cfg.j2", " \n", "empty"),
        ("time.cfg.j2", "x" * (MAX_SOURCE + 1), "longer than"), ("time.cfg.j2", "\n{% endfor %}", "line 2"),
    ],
)  # fmt: skip
def test_what_is_no_text_for_that_template_is_refused(name, body, told):
    assert told in examine("yealink", name, body).faults[0]


def back(name: str, **texts: str) -> overrides.Examined:
    own = {key.replace("_", "."): text for key, text in texts.items()}
    return overrides.examine_back(RENDERER, PROFILES["yealink"], own, name, (phone(),), ACCOUNT)


def test_going_back_to_the_shipped_text_is_tried_beside_the_account_s_other_templates():
    """P-17: another template may need what only the account's own text had."""
    needs = "{% from 'time.cfg.j2' import ours with context %}{% include 'common.cfg.j2' %}\n{{ ours() }}\n"
    time = "{% macro ours() %}x = 1{% endmacro %}{% include 'time.cfg.j2' %}\n"
    assert examine("yealink", "common.cfg.j2", needs, time_cfg_j2=time).faults == ()
    found = back("time.cfg.j2", common_cfg_j2=needs, time_cfg_j2=time)
    assert "ours" in found.faults[0]
    assert back("common.cfg.j2", common_cfg_j2=needs, time_cfg_j2=time).faults == ()
    assert back("time.cfg.j2", time_cfg_j2=time) == overrides.Examined()


def test_the_way_back_stays_open_where_the_texts_fail_already():
    """P-17: somebody who goes back step by step is not held at the first one; what fails is told."""
    found = back("time.cfg.j2", common_cfg_j2="{{ config.nosuch }}", time_cfg_j2="{{ config.neither }}")
    assert found.faults == ()
    assert any("nosuch" in warning for warning in found.warnings)
