"""Characters a format cannot hold: the nearest one out, the refusal in."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.audit.record import SYSTEM
from engine.errors import Invalid
from engine.provisioning import fitting, imports, phone_extras, phones, render, vendors
from engine.provisioning.imports import Known, KnownLine
from engine.provisioning.phones import LineFields, PhoneFields
from tests.factories import add_account, add_line
from tests.golden.samples import config

KNOWN = vendors.load()
NARROW = [profile for profile in KNOWN.profiles.values() if profile.refused is not None]
NO_QUOTES = ["avaya", "mitel", "panasonic"]
MACS = {"avaya": "c81feaaabb01", "mitel": "00085daabb01", "panasonic": "0080f0aabb01"}


def model_of(profile) -> str:
    return next(model.name for model in profile.models.values() if model.template is not None)


@pytest.mark.parametrize("profile", NARROW, ids=lambda one: one.name)
@given(text=st.text(st.sampled_from('aZ0 "\\{}|\t\n\x00☎\u00a0')) | st.text())
def test_any_text_is_fitted_and_a_good_one_is_left(profile, text):
    """P-11: what comes out the format holds; what it could hold already is the very same."""
    fitted = fitting.fitted(text, profile.refused)
    assert fitting.is_fit(fitted, profile.refused)
    assert fitting.fault(profile.title, fitted, profile.refused) == ""
    if fitting.is_fit(text, profile.refused):
        assert fitted == text


@pytest.mark.parametrize(
    ("vendor", "text", "nearest"),
    [("mitel", 'Bob "B"', "Bob 'B'"), ("mitel", "Hall\\", "Hall/"), ("avaya", '"x"', "'x'"),
     ("panasonic", 'a"b', "a'b"), ("audiocodes", '{"x', '("x'), ("algo", "  a ", "a"), ("yealink", "a\nb ", "a b")],
)  # fmt: skip
def test_the_nearest_character_stands_in(vendor, text, nearest):
    """P-11: a name is read as it was meant."""
    assert fitting.fitted(text, KNOWN.profiles[vendor].refused) == nearest


@pytest.mark.parametrize("profile", KNOWN.profiles.values(), ids=lambda one: one.name)
def test_no_name_keeps_a_phone_of_any_family_from_its_file(profile):
    """P-11: every place that only shows a text, with every hard character; secrets are never rewritten."""
    phone = config(profile, model_of(profile), 0)
    hard = ' {"a"\n|\\ '
    line = dataclasses.replace(phone.lines[0], display_name=hard, label=hard)
    rule = next(rule for rule in profile.files if rule.template == "model")
    fitted = render.fitted(dataclasses.replace(phone, label=hard, lines=(line,)), profile.refused)
    assert fitted.lines[0].secret == line.secret
    assert render.Renderer(KNOWN).render(profile, rule, fitted)
    assert render.fitted(phone, profile.refused) is phone


@pytest.mark.parametrize("vendor", NO_QUOTES)
async def test_a_quote_is_refused_on_every_way_in_with_field_character_and_place(database, vendor):
    """P-11: a phone's label, a name that stands on a line put onto it, a key's label, and then the line's own change:
    all at once.
    """
    model = model_of(KNOWN.profiles[vendor])
    async with database.sessions.begin() as session:
        account = await add_account(session)
        line = await add_line(session, account, "101")
        line.display_name = 'Ann "A"'
        wished = PhoneFields(MACS[vendor], vendor, model, label='Bar "7"', lines=(line.id,))
        with pytest.raises(Invalid) as caught:
            await phones.create_phone(session, SYSTEM, account, wished)
        told = {fault.field: fault.detail for fault in caught.value.fields}
        assert set(told) == {"label", "lines.0"}
        assert all('" (U+0022) at place 5' in detail for detail in told.values())
        assert "line 101" in told["lines.0"]
        await session.rollback()
    async with database.sessions.begin() as session:
        account = await add_account(session, name="Second")
        line = await add_line(session, account, "101")
        await phones.create_phone(session, SYSTEM, account, dataclasses.replace(wished, label="", lines=(line.id,)))
        changed = dataclasses.replace(LineFields.of(line), display_name='A"', secret='x"y')
        with pytest.raises(Invalid) as caught:
            await phones.update_line(session, SYSTEM, account, line, changed)
        assert [fault.field for fault in caught.value.fields] == ["display_name", "secret"]


@pytest.mark.parametrize("vendor", NO_QUOTES)
def test_a_table_with_quotes_is_told_by_row_and_column(vendor):
    """P-19: labels, told names, and names that are stored with the line already."""
    lines = {"102": KnownLine("line_2", "102", 'Bo "B"', "102", "", None, None, None)}
    model = model_of(KNOWN.profiles[vendor])
    table = (
        "mac,vendor,model,label,line1_extension,line1_display_name,line2_extension\n"
        f'{MACS[vendor]},{vendor},{model},"Bar ""7""",101,"Ann ""A""",102\n'
    )
    plan = imports.plan(imports.read(table.encode()), Known({}, lines, {}, {}, "US", ("US",)))
    told = {fault.column: fault.detail for fault in plan.faults}
    assert {fault.row for fault in plan.faults} == {2}
    assert set(told) == {"label", "line1_display_name", "line2_extension"}
    assert all('" (U+0022) at place ' in detail for detail in told.values())
    assert told["line2_extension"].startswith("The display name that line 102 has already: ")
    assert plan.phones == ()


@pytest.mark.parametrize("vendor", NO_QUOTES)
def test_a_table_is_told_of_a_stored_secret_that_the_phone_could_not_be_given(vendor):
    """P-19, P-11: a secret is never rewritten, so the phone would stay without a file; the secret is not shown."""
    lines = {"102": KnownLine("line_2", "102", "Bo", "102", "", None, None, None, 'se"cret')}
    table = f"mac,vendor,model,line1_sip_user\n{MACS[vendor]},{vendor},{model_of(KNOWN.profiles[vendor])},102\n"
    plan = imports.plan(imports.read(table.encode()), Known({}, lines, {}, {}, "US", ("US",)))
    assert [(fault.row, fault.column) for fault in plan.faults] == [(2, "line1_sip_user")]
    assert "The secret that line 102 has already: " in plan.faults[0].detail
    assert "cret" not in plan.faults[0].detail.replace("secret", "")


@pytest.mark.parametrize(
    ("vendor", "label", "character"),
    [("mitel", 'Bar "7"', '" (U+0022) at place 5'), ("avaya", 'Bar "7"', '" (U+0022) at place 5'),
     ("panasonic", 'Bar "7"', '" (U+0022) at place 5'), ("audiocodes", "Bar ", "a blank (U+0020) at place 4")],
)  # fmt: skip
async def test_a_key_s_label_is_refused_by_the_key_the_character_and_its_place(database, vendor, label, character):
    """P-11, P-07: by its path in the request, where the phone is saved and where its model's level is."""
    profile = KNOWN.profiles[vendor]
    model = next((one for one in profile.models.values() if one.keys > 4 and one.template is not None), None)
    if model is None:
        pytest.skip(f"{profile.title} phones have no keys that can be set from here")
    keys = [{"position": 3, "kind": "blf", "value": "102", "label": "Zoë"},
            {"position": 4, "kind": "blf", "value": "103", "label": label}]  # fmt: skip
    async with database.sessions.begin() as session:
        account = await add_account(session)
        wished = PhoneFields("805ec0000001", vendor, model.name, settings={"function_keys": keys})
        with pytest.raises(Invalid) as caught:
            await phones.create_phone(session, SYSTEM, account, wished)
        told = {fault.field: fault.detail for fault in caught.value.fields}
        faults = await phone_extras.level_faults(session, account.id, f"{vendor}/{model.name}", {"function_keys": keys})
        await session.rollback()
    assert told["settings.function_keys.1.label"].startswith("The label of key 4: ")
    assert character in told["settings.function_keys.1.label"]
    assert "settings.function_keys.0.label" not in told
    assert "settings.function_keys.1.label" in {fault.field for fault in faults}
