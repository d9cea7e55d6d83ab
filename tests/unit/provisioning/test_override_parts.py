"""P-17, P-08: what an account's own template may not write in seven families' XML, since no proof reads it: further
parts, what lets other servers in, numbers that are not dialled.
"""

import pytest

from engine.provisioning import overrides, render, vendors
from engine.provisioning.overrides import Examined
from engine.provisioning.settings import AccountRecord

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
ACCOUNT = AccountRecord("account_1", "America/Chicago", "US", "Adm1n")
TEMPLATES = {"sangoma": "base.cfg.j2", "poly": "base.cfg.j2"}
ENDS = {
    "fanvil": "</sysConf>", "sangoma": "</config>", "gigaset": "  </nvm>", "grandstream": "</config>",
    "linphone": "</config>", "acrobits": "</account>", "poly": "</polycomConfig>",
}  # fmt: skip


def examined(vendor: str, added: str, template: str = "") -> Examined:
    """What is told of the shipped template with that at its end."""
    name = template or TEMPLATES.get(vendor, "base.xml.j2")
    head, end, tail = PROFILES[vendor].templates[name].rpartition(ENDS[vendor])
    assert end
    return overrides.examine(RENDERER, PROFILES[vendor], {name: f"{head}{added}\n{end}{tail}"}, name, (), ACCOUNT)


PARTS = {
    "fanvil, remote management": ("fanvil", "<tr069><X>1</X></tr069>"),
    "fanvil, DHCP options": ("fanvil", "<ap><opt><X>66</X></opt></ap>"),
    "sangoma, registrars of other networks": ("sangoma", '<networks><network id="1"/></networks>'),
    "gigaset, a part of another name": ("gigaset", '<ref><param name="x" value="1"/></ref>'),
    "grandstream, a part of another name": ("grandstream", "<rules><rule>1</rule></rules>"),
    "linphone, entries in no section": ("linphone", "<extra><entry name='x'>1</entry></extra>"),
    "acrobits, calls by another road": ("acrobits", "<webCallback><url>https://x.example/</url></webCallback>"),
}


@pytest.mark.parametrize("case", PARTS.values(), ids=PARTS)
def test_a_part_of_the_file_that_no_proof_reads_is_refused(case):
    """P-17: each of these families names the parts its file may have."""
    assert "nothing here proves" in " ".join(examined(*case).faults)


PINNED = {
    "fanvil, plug and play from the LAN": ("fanvil", "<ap><pnp><PNPEnable>1</PNPEnable></pnp></ap>"),
    "fanvil, a DHCP option": ("fanvil", "<ap><DHCPOption>66</DHCPOption></ap>"),
    "fanvil, another DHCP option": ("fanvil", "<ap><DHCPOption100-101>1</DHCPOption100-101></ap>"),
    "fanvil, a DHCP option with a management server": ("fanvil", "<ap><DHCPOptionACS>43</DHCPOptionACS></ap>"),
    "fanvil, calls without a registration": ("fanvil", "<call><basic><DialOffLine>0</DialOffLine></basic></call>"),
    "gigaset, a handset taken off": ("gigaset", '<oper name="delete_hs" value="00001"/>'),
    "gigaset, all handsets taken off": ("gigaset", '<oper name="DeleteAllHS"/>'),
    "gigaset, a handset that does not register": ("gigaset", '<param name="hs.RegStatus" value="ToDel"/>'),
    "gigaset, an operation with values": ("gigaset", '<oper name="reset"><param name="x" value="1"/></oper>'),
    "sangoma, a DHCP option": ("sangoma", '<setting id="use_option66" value="1"/>'),
    "gigaset, a dialling plan": ("gigaset", '<param name="BS_IP_Data1.ucI_DIALING_PLAN_COUNTRY_ID" value="0x1"/>'),
    "gigaset, an area code": ("gigaset", '<param name="Telephony.0.AreaCode" value="512"/>'),
    "gigaset, another way to be provisioned": ("gigaset", '<param name="Provisioning.global.Mode" value="2"/>'),
    "grandstream, plug and play from the LAN": ("grandstream", "<P1414>1</P1414>"),
    "grandstream, remote management": ("grandstream", "<P4503>https://acs.example/</P4503>"),
    "grandstream, what a locked phone dials": ("grandstream", "<P8385>112</P8385>"),
    "grandstream, plug and play by its name": (
        "grandstream", '<item name="provisioning.3cxAutoProvision">Yes</item>', "grp.xml.j2",
    ),
    "grandstream, plug and play in two parts": (
        "grandstream", '<item name="provisioning"><part name="3cxAutoProvision">Yes</part></item>', "grp.xml.j2",
    ),
    "linphone, no account to call by": (
        "linphone", '<section name="sip"><entry name="default_proxy" overwrite="true">-1</entry></section>',
    ),
    "linphone, a file that is not kept": (
        "linphone", '<section name="misc"><entry name="transient_provisioning">1</entry></section>',
    ),
    "acrobits, what a number starts": ("acrobits", "<dialAction>gsmCall</dialAction>"),
    "acrobits, the account switched off": ("acrobits", "<disabled>1</disabled>"),
    "poly, the key 9 is another": ("poly", '<k key.VVX450.9.function.prim="Mute"/>'),
    "poly, the vendor's own server": ("poly", '<d device.prov.ztpEnabled.set="1" device.prov.ztpEnabled="1"/>'),
    "poly, remote management": ("poly", '<d device.feature.tr069.enabled="1"/>'),
}  # fmt: skip


@pytest.mark.parametrize("case", PINNED.values(), ids=PINNED)
def test_a_setting_that_swallows_a_call_or_lets_another_server_in_stays_as_shipped(case):
    """P-08, P-17: whatever the family calls it."""
    assert "decides what becomes of a call" in " ".join(examined(*case).faults)


ALLOWED = {
    "fanvil, a screen": ("fanvil", "<screen><Brightness>7</Brightness></screen>"),
    "fanvil, a DHCP option off": ("fanvil", "<ap><DHCPOption>0</DHCPOption></ap>"),
    "sangoma, a ring of its own": ("sangoma", "<ringtones><tone id='1'/></ringtones>"),
    "gigaset, a directory of a handset": ("gigaset", '<param name="hs.00001.DirectAccessDir" value="0"/>'),
    "grandstream, remote management off": ("grandstream", "<P1409>0</P1409>"),
    "grandstream, a screen in parts": (
        "grandstream", '<item name="lcd"><part name="brightness">7</part></item>', "grp.xml.j2",
    ),
    "linphone, a section more": ("linphone", '<section name="ui"><entry name="theme">dark</entry></section>'),
    "acrobits, its picture": ("acrobits", "<allowVideo>0</allowVideo>"),
    "poly, elements in one another": ("poly", '<reg><reg.1 reg.1.ringType="ringer2"/></reg>'),
    "poly, the vendor's own server off": ("poly", '<d device.prov.ztpEnabled.set="1" device.prov.ztpEnabled="0"/>'),
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED.values(), ids=ALLOWED)
def test_what_has_nothing_to_do_with_calls_may_be_written(case):
    """P-17: an own template is there to be used."""
    found = examined(*case)
    assert found.faults == ()
    assert found.tried


@pytest.mark.parametrize(
    ("shipped", "own"),
    [
        ('name="add_hs"', 'name="delete_hs"'), ('value="ToReg"', 'value="ToDel"'),
        ('<oper name="DeleteNotProvisionedHS"/>', ""),
        ('value="{{ handset }}" name="add_hs"', 'value="9" name="add_hs"'),
    ],
)  # fmt: skip
def test_the_operations_that_make_gigaset_s_handsets_stay_as_shipped(shipped, own):
    """P-08, P-17: a base whose handsets are gone dials nothing; what an `<oper>` does is known by its name alone."""
    text = PROFILES["gigaset"].templates["base.xml.j2"]
    assert shipped in text
    changed = {"base.xml.j2": text.replace(shipped, own)}
    found = overrides.examine(RENDERER, PROFILES["gigaset"], changed, "base.xml.j2", (), ACCOUNT)
    assert "decides what becomes of a call" in " ".join(found.faults)


def test_the_older_bases_of_gigaset_are_asked_to_go_nowhere_else():
    """P-17: they know the provisioning server by another name."""
    added = '<param name="BS_IP_Data1.aucS_DATA_SERVER[0]" value="https://x.example/"/>'
    assert "proven by nobody" in " ".join(examined("gigaset", added).faults)
