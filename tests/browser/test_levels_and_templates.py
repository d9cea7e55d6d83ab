"""Settings of many phones and an account's own templates, in the browser: forms, refusals, history and the way back."""

from playwright.async_api import expect

from tests.browser.looking import NewPage, looked_at_in_every_way
from tests.browser.site import Site

ONE = "/phones/templates/yealink/time.cfg.j2"
OWN = "{% include 'time.cfg.j2' %}\nphone_setting.backlight_time = 60\n"


async def test_settings_and_templates_from_first_look_to_the_way_back(filled: Site, new_page: NewPage):
    """P-10, P-17, S1-01: every page and every state of it, in both themes and widths."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/settings")
    await looked_at_in_every_way(page, "settings-empty")
    await page.get_by_role("link", name="For the account").click()
    await page.get_by_label("Voice VLAN").fill("9999")
    await page.get_by_label("LLDP").select_option("no")
    await page.get_by_label("Codecs").fill("opus\npcmu")
    await page.get_by_label("Function keys").fill("3, blf, 102, Zoë\n4, speed_dial, 911, Help")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("expected a whole number from 1 to 4094", exact=False).first).to_be_visible()
    await expect(page.get_by_label("LLDP")).to_have_value("no")
    await looked_at_in_every_way(page, "settings-refused")
    await page.get_by_label("Voice VLAN").fill("20")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Settings saved.", exact=False).first).to_be_visible()
    await expect(page.locator("#levels").locator("xpath=ancestor::section")).to_contain_text("Voice VLAN: 20")
    await page.get_by_role("button", name="Open the location").click()
    await expect(page.get_by_text("Inherited: 20.", exact=False).first).to_be_visible()
    await page.get_by_label("LLDP").select_option("default")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("LLDP: the default").first).to_be_visible()
    await looked_at_in_every_way(page, "settings")

    await page.goto(f"{filled.url}/phones/templates")
    await looked_at_in_every_way(page, "templates-empty")
    await page.goto(filled.url + ONE)
    await looked_at_in_every_way(page, "template-shipped")
    await page.get_by_label("Jinja template").fill("{% include 'time.cfg.j2' %}\n{{ config.nosuch }}\n")
    await page.get_by_role("button", name="Try and publish").click()
    await expect(page.get_by_text("line 2 of time.cfg.j2", exact=False).first).to_be_visible()
    await expect(page.get_by_label("Jinja template")).to_have_value(
        "{% include 'time.cfg.j2' %}\n{{ config.nosuch }}\n"
    )
    await looked_at_in_every_way(page, "template-refused")
    await page.get_by_label("Jinja template").fill(OWN)
    await page.get_by_label("What is it for?").fill("Brighter for a minute")
    await page.get_by_role("button", name="Try and publish").click()
    await expect(page.get_by_text("Template published.", exact=False).first).to_be_visible()
    await expect(page.get_by_role("table", name="What differs")).to_contain_text("backlight_time = 60")
    await looked_at_in_every_way(page, "template-own")
    await page.get_by_label("Jinja template").fill(OWN.replace("60", "90"))
    await page.get_by_role("button", name="Try and publish").click()
    await page.get_by_role("link", name="History").click()
    await expect(page.get_by_role("heading", name="From version 1 to version 2")).to_be_visible()
    await looked_at_in_every_way(page, "history")
    await page.get_by_role("button", name="Go back to version 1").click()
    await expect(page.get_by_text("Back to version 1").first).to_be_visible()
    await page.get_by_role("button", name="Go back to the shipped text").click()
    await expect(page.get_by_text("Back to the shipped text").first).to_be_visible()
    await page.goto(f"{filled.url}/phones/templates")
    await looked_at_in_every_way(page, "templates")


async def test_a_file_that_loses_the_provisioning_url_is_published_only_when_asked_twice(
    filled: Site, new_page: NewPage
):
    """P-17: a warning first, with everything typed still there; works without a script."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/phones/templates/yealink/base.cfg.j2")
    text = await page.get_by_label("Jinja template").input_value()
    elsewhere = text.replace("{{ config.provisioning_url }}", "http://elsewhere.example/")
    await page.get_by_label("Jinja template").fill(elsewhere)
    await page.get_by_role("button", name="Try and publish").click()
    await expect(
        page.get_by_text("What another server hands out is proven by nobody", exact=False).first
    ).to_be_visible()
    await expect(page.get_by_label("Publish it all the same")).to_have_count(0)
    await expect(page.get_by_label("Jinja template")).to_have_value(elsewhere)
    lost = text.replace("static.auto_provision.server.url = {{ config.provisioning_url }}\n", "")
    assert lost != text
    await page.get_by_label("Jinja template").fill(lost)
    await page.get_by_role("button", name="Try and publish").click()
    await expect(page.get_by_role("alert")).to_contain_text("no longer names the provisioning URL")
    await page.get_by_label("Publish it all the same").check()
    await page.get_by_role("button", name="Try and publish").click()
    await expect(page.get_by_text("Template published.", exact=False).first).to_be_visible()
    await expect(page.get_by_label("Jinja template")).to_have_value(lost)
    await page.get_by_label("Jinja template").fill(text + "phone_setting.backlight_time = 60\n")
    await page.get_by_role("button", name="Try and publish").click()
    await page.get_by_role("link", name="History").click()
    await page.get_by_role("button", name="Go back to version 1").click()
    await expect(page.get_by_role("alert")).to_contain_text("no longer names the provisioning URL")
    await page.get_by_role("button", name="Go back to version 1 all the same").click()
    await expect(page.get_by_text("Back to version 1").first).to_be_visible()


async def test_an_operator_reads_templates_and_changes_settings_and_an_auditor_changes_neither(
    filled: Site, new_page: NewPage
):
    """Scopes: provisioning:write for templates, phones:write for settings."""
    await filled.add_user("auditor@example.com", "auditor")
    filled.email = "auditor@example.com"
    page = await new_page(filled)
    await page.goto(filled.url + ONE)
    await expect(page.get_by_label("Jinja template")).to_have_attribute("readonly", "")
    await expect(page.get_by_role("button", name="Try and publish")).to_have_count(0)
    await page.goto(f"{filled.url}/phones/settings/level?name=account")
    await expect(page.get_by_role("button", name="Save")).to_have_count(0)
