"""How phones boot whose files are XML elements: Grandstream, Cisco SPA and MPP, Snom, Fanvil.

Grandstream: `cfg<mac>` (the binary form), `cfg<mac>.xml`, `cfg<model>.xml`, `cfg.xml`; the first that is there ends the
search, and a file with another phone's `<mac>` inside is thrown away. Cisco: `spa<model>.cfg` or `<model>-3PCC.xml`,
then whatever `Profile_Rule` in it names, with `$MA` and its like filled in, and with its `--uid` and `--pwd` where a
password is asked; later boots begin with the rule. Snom: `snom<model>.htm`, `snom<model>-<MAC>.htm`,
`snom<model>-firmware.htm`; later boots ask `setting_server` alone. Fanvil: the model's common file, then `<mac>.cfg`; a
file that has not changed is not applied again.
"""

import re
from collections.abc import Mapping

from engine.provisioning import challenged
from engine.provisioning.booting import Family, LineResult, Memory, Wire, is_new, named
from engine.provisioning.formats import elements
from engine.provisioning.vendors import Mac, Model

_OPTIONS = re.compile(r"^\[[^\]]*\]\s*")  # `[--key $SA]` before the URL of a rule
_MAX_RULES = 4  # a profile rule that names another, and so on: the phone gives up as well
_MAX_LINES = 64
_SIP_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


def _place(text: str, transport: str) -> str:
    """`host:port` out of `host` or `host:port`."""
    host = text.rsplit("]", 1)[-1]
    return f"{text}:{_SIP_PORTS.get(transport, 5060)}" if text and ":" not in host else text


async def _apply(wire: Wire, flash: Memory, name: str, *, is_overwriting: bool = False) -> bool:
    """Fetch a file and take its settings over; False: it is not there."""
    data = await wire.get(name)
    if data is None:
        return False
    wire.mark_applied()
    flash.apply(name, elements(data), is_overwriting=is_overwriting)
    return True


# --- Grandstream ----------------------------------------------------------------------------------------------------

# active, server, outbound proxy, user, authentication, password, name, transport, label: P-values of the accounts
_GXP = (
    (271, 47, 48, 35, 36, 34, 3, 130, 270),
    (401, 402, 403, 404, 405, 406, 407, 448, 417),
    (501, 502, 503, 504, 505, 506, 507, 548, 517),
    (601, 602, 603, 604, 605, 606, 607, 648, 617),
    (1701, 1702, 1703, 1704, 1705, 1706, 1707, 1748, 1717),
    (1801, 1802, 1803, 1804, 1805, 1806, 1807, 1848, 1817),
)
_SECOND_SOCKET = (401, 747, 748, 735, 736, 734, 703, 830, 703)
_GS_TRANSPORTS = {"0": "udp", "1": "tcp", "2": "tls", "UDP": "udp", "TCP": "tcp", "Tls Or Tcp": "tls"}


def _grandstream_agent(model: Model, mac: Mac) -> str:
    board = " V1.1A" if model.name.startswith("HT") else ""
    return f"Grandstream Model HW {model.name}{board} SW 1.0.11.48 DevId {mac}"


async def _boot_grandstream(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    await wire.get(f"cfg{mac}")
    for name in (f"cfg{mac}.xml", f"cfg{model.name.lower()}.xml", "cfg.xml"):
        data = await wire.get(name)
        if data is None:
            continue
        settings = elements(data)
        if settings.get("mac", mac) == mac:
            wire.mark_applied()
            flash.apply(name, settings, is_overwriting=False)
        return


def _grandstream_lines(settings: Mapping[str, str]) -> list[LineResult]:
    is_adapter = "P747" in settings
    lines = []
    for number, known in enumerate(_GXP, 1):
        values = _SECOND_SOCKET if is_adapter and number == 2 else known
        names = [f"P{value}" for value in values]
        n = f"account.{number}."
        if settings.get(f"{n}enable") == "Yes":
            names = [n + part for part in _GRP]
        elif settings.get(names[0]) != "1":
            continue
        _, server, proxy, user, auth, secret, display, transport, label = (settings.get(name, "") for name in names)
        over = _GS_TRANSPORTS.get(transport, "")
        lines.append(LineResult(number, user, auth, secret, _place(server, over), over, display, label, proxy))
    return lines


_GRP = (
    "enable", "sip.server.1.address", "sip.outboundProxy.1.address", "sip.userid", "sip.subscriber.userid",
    "sip.subscriber.password", "sip.subscriber.name", "sip.transport", "name",
)  # fmt: skip


def _grandstream_admin_password(settings: Mapping[str, str]) -> str | None:
    return settings.get("users.admin.password", settings.get("P2"))


def _grandstream_next_url(settings: Mapping[str, str]) -> str | None:
    protocol = settings.get("provisioning.config.protocol", settings.get("P212", ""))
    path = settings.get("provisioning.config.serverPath", settings.get("P237", ""))
    scheme = {"1": "http", "2": "https"}.get(protocol, protocol.lower())
    return f"{scheme}://{path}/" if path and scheme else None


# --- Cisco SPA and MPP ----------------------------------------------------------------------------------------------


def _spa_agent(model: Model, mac: Mac) -> str:
    brand, version = ("Linksys", "6.1.5(a)") if model.name.startswith("SPA9") else ("Cisco", "7.6.2c")
    return f"{brand}/{model.name}-{version} ({mac.upper()})(CBT141400UK)"


def _mpp_agent(model: Model, mac: Mac) -> str:
    return f"Cisco-CP-{model.name}-3PCC/12.0.2 ({mac})"


async def _boot_spa(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    first = "init.cfg" if model.name == "PAP2T" else f"spa{model.name.removeprefix('SPA')}.cfg"
    await _follow_rules(wire, flash, first, mac, {"$PSN": model.name.removeprefix("SPA")})


async def _boot_mpp(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    await _follow_rules(wire, flash, f"{model.name}-3PCC.xml", mac, {"$PSN": f"{model.name}-3PCC"})


async def _follow_rules(wire: Wire, flash: Memory, first: str, mac: Mac, macros: dict[str, str]) -> None:
    """Fetch what the rule names, take its settings over, and do so again as long as they bring another rule."""
    rule = flash.settings.get("Profile_Rule") or first
    done: set[str] = set()
    while rule and rule not in done and len(done) < _MAX_RULES:
        done.add(rule)
        options = _OPTIONS.match(rule)
        wire.typed = (challenged.in_rule(options[0]) if options is not None else None) or wire.typed
        filled = _OPTIONS.sub("", rule)
        for macro, value in {"$MAU": mac.upper(), "$MA": mac, **macros}.items():
            filled = filled.replace(macro, value)
        base, _, name = filled.rpartition("/")
        if "://" in base:
            wire.base = base + "/"
        if not await _apply(wire, flash, name):
            return
        rule = flash.settings.get("Profile_Rule", "")


def _cisco_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, _MAX_LINES):
        user = settings.get(f"User_ID_{number}_", "")
        if settings.get(f"Line_Enable_{number}_") != "Yes" or not user:
            continue
        transport = settings.get(f"SIP_Transport_{number}_", "UDP").lower()
        has_proxy = settings.get(f"Use_Outbound_Proxy_{number}_", "Yes") == "Yes"
        is_own_name = settings.get(f"Use_Auth_ID_{number}_", "Yes") == "Yes"
        lines.append(
            LineResult(
                key=number,
                sip_user=user,
                auth_user=settings.get(f"Auth_ID_{number}_", user) if is_own_name else user,
                secret=settings.get(f"Password_{number}_", ""),
                registrar=_place(settings.get(f"Proxy_{number}_", ""), transport),
                transport=transport,
                display_name=settings.get(f"Display_Name_{number}_", ""),
                label=settings.get(f"Short_Name_{number}_", ""),
                outbound_proxy=settings.get(f"Outbound_Proxy_{number}_", "") if has_proxy else "",
            )
        )
    return lines


def _cisco_next_url(settings: Mapping[str, str]) -> str | None:
    rule = _OPTIONS.sub("", settings.get("Profile_Rule", ""))
    return rule.rpartition("/")[0] + "/" if "://" in rule else None


# --- Snom -----------------------------------------------------------------------------------------------------------


def _snom_agent(model: Model, mac: Mac) -> str:
    shape = f"snom{model.name}-SIP" if not model.name.startswith(("M", "m")) else f"Snom {model.name}"
    return f"Mozilla/4.0 (compatible; {shape} 10.1.169.16 2010.12-00001-gd311851f1 {mac.upper()} SXM:0 UXM:0)"


async def _boot_snom(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    known = flash.settings.get("setting_server", "").replace("{mac}", mac.upper())
    if known:
        base, _, name = known.rpartition("/")
        wire.base = base + "/"
        await _apply(wire, flash, name, is_overwriting=True)
        return
    stem = f"snom{model.name}"
    await _apply(wire, flash, f"{stem}.htm")
    if not await _apply(wire, flash, f"{stem}-{mac.upper()}.htm"):
        await _apply(wire, flash, f"{mac.upper()}.xml")
    await wire.get(f"{stem}-firmware.htm")


def _snom_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, _MAX_LINES):
        user = settings.get(f"user_name.{number}", "")
        if settings.get(f"user_active.{number}") != "on" or not user:
            continue
        proxy, _, parameters = settings.get(f"user_outbound.{number}", "").removeprefix("sip:").partition(";")
        transport = parameters.removeprefix("transport=") or "udp"
        registrar = _place(settings.get(f"user_host.{number}", ""), transport)
        lines.append(
            LineResult(
                key=number,
                sip_user=user,
                auth_user=settings.get(f"user_pname.{number}") or user,
                secret=settings.get(f"user_pass.{number}", ""),
                registrar=registrar,
                transport=transport,
                display_name=settings.get(f"user_realname.{number}", ""),
                label=settings.get(f"user_idle_text.{number}", ""),
                outbound_proxy=proxy if proxy != registrar else "",
            )
        )
    return lines


def _snom_next_url(settings: Mapping[str, str]) -> str | None:
    return settings.get("setting_server", "").rpartition("/")[0] + "/" if settings.get("setting_server") else None


# --- Fanvil ---------------------------------------------------------------------------------------------------------


def _fanvil_agent(model: Model, mac: Mac) -> str:
    return f"Fanvil {model.name} 2.12.16.17 {mac}"


async def _boot_fanvil(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    common = [name for name in model.files if name.endswith(".cfg")]
    for name in (*common[:1], f"{mac}.cfg"):
        data = await wire.get(name)
        if data is not None and is_new(flash, name, data):
            wire.mark_applied()
            flash.apply(name, elements(data), is_overwriting=False)


def _fanvil_next_url(settings: Mapping[str, str]) -> str | None:
    return f"{settings['FlashServerIP']}/" if settings.get("FlashServerIP") else None


def _fanvil_lines(settings: Mapping[str, str]) -> list[LineResult]:
    titles = {
        settings[name.replace("Title", "Value")]: title
        for name, title in settings.items()
        if name.startswith("Fkey.") and name.endswith(".Title") and name.replace("Title", "Value") in settings
    }
    lines = []
    for number in range(1, _MAX_LINES):
        n = f"line.{number}."
        if settings.get(f"{n}EnableReg") != "1":
            continue
        proxy = settings.get(f"{n}ProxyAddr", "")
        lines.append(
            LineResult(
                key=number,
                sip_user=settings.get(f"{n}PhoneNumber", ""),
                auth_user=settings.get(f"{n}RegisterUser", ""),
                secret=settings.get(f"{n}RegisterPswd", ""),
                registrar=f"{settings.get(f'{n}RegisterAddr', '')}:{settings.get(f'{n}RegisterPort', '5060')}",
                transport={"0": "udp", "1": "tcp", "3": "tls"}.get(settings.get(f"{n}Transport", ""), ""),
                display_name=settings.get(f"{n}DisplayName", ""),
                label=titles.get(f"SIP{number}", ""),
                outbound_proxy=f"{proxy}:{settings.get(f'{n}ProxyPort', '5060')}" if proxy else "",
            )
        )
    return lines


FAMILIES: Mapping[str, Family] = {
    "grandstream": Family(
        _grandstream_agent, _boot_grandstream, _grandstream_lines, _grandstream_admin_password, _grandstream_next_url
    ),
    "cisco_spa": Family(_spa_agent, _boot_spa, _cisco_lines, named("Admin_Passwd"), _cisco_next_url),
    "cisco_mpp": Family(_mpp_agent, _boot_mpp, _cisco_lines, named("Admin_Password"), _cisco_next_url),
    "snom": Family(_snom_agent, _boot_snom, _snom_lines, named("admin_mode_password"), _snom_next_url),
    "fanvil": Family(_fanvil_agent, _boot_fanvil, _fanvil_lines, named("account.1.Password"), _fanvil_next_url),
}
