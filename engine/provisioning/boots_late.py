"""How Poly OBi, AudioCodes, Linphone and Acrobits boot.

OBi: `$DM.xml` out of the box (`OBi202.xml`), then what its ConfigURL names, with $MAC and $DM filled in; later boots
begin with the ConfigURL. AudioCodes: the URL of DHCP option 160 or of its settings, `<MAC>.cfg` at the end of it, tried
again at each period; a file that has not changed is not applied again. Linphone fetches the one URL it was given and
afterwards `config-uri`; an entry with overwrite="true" replaces what the user has set. Acrobits' applications fetch one
URL, and from then on `extProvUrl`.
"""

import re
from collections.abc import Mapping

from engine.provisioning.booting import Family, LineResult, Memory, Wire, is_new, named
from engine.provisioning.dialplan import settings_in
from engine.provisioning.formats import elements
from engine.provisioning.vendors import Mac, Model

_MAX_LINES = 16
_ADDRESS = re.compile(r'\s*(?:"(?P<name>(?:[^"\\]|\\.)*)"\s*)?<sips?:(?:(?P<user>[^@>]*)@)?(?P<rest>[^>]*)>')


def _absolute(wire: Wire, url: str) -> str:
    """Turn to the server a URL names; returns the file's name on it."""
    base, _, name = url.rpartition("/")
    if "://" in base:
        wire.base = base + "/"
    return name


# --- Poly OBi -------------------------------------------------------------------------------------------------------


def _obi_name(model: Model) -> str:
    """As the device writes itself: OBi202, OBiVVX450."""
    return model.name if model.name.startswith("OBi") else f"OBi{model.name.removesuffix(' OBi').replace(' ', '')}"


def _obi_agent(model: Model, _mac: Mac) -> str:
    return f"OBIHAI/{_obi_name(model)}-6.4.1.11014"


async def _boot_obi(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    url = flash.settings.get("X_DeviceManagement.ITSPProvisioning.ConfigURL") or "$DM.xml"
    done: set[str] = set()
    while url and url not in done:
        done.add(url)
        url = url.rpartition(" ")[2]  # behind `SYNC -A=aes -K=$SPRM0 -IV=$SPRM1`
        name = _absolute(wire, url.replace("$MAC", mac.upper()).replace("$DM", _obi_name(model)))
        data = await wire.get(name)
        if data is None:
            return
        wire.mark_applied()
        flash.apply(name, elements(data), is_overwriting=False)
        url = flash.settings.get("X_DeviceManagement.ITSPProvisioning.ConfigURL", "")


def _obi_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, 10):
        sp = f"VoiceService.1.VoiceProfile.1.Line.{number}."
        if settings.get(f"{sp}Enable") != "true":
            continue
        profile = ord(settings.get(f"{sp}X_ServProvProfile", "A")) - ord("A") + 1
        itsp = f"VoiceService.1.VoiceProfile.{profile}.SIP."
        proxy = settings.get(f"{itsp}OutboundProxy", "")
        auth = settings.get(f"{sp}SIP.AuthUserName", "")
        display = settings.get(f"{sp}CallingFeatures.CallerIDName", "")
        lines.append(
            LineResult(
                key=number,
                sip_user=settings.get(f"{sp}SIP.URI") or auth,
                auth_user=auth,
                secret=settings.get(f"{sp}SIP.AuthPassword", ""),
                registrar=f"{settings.get(f'{itsp}ProxyServer', '')}:{settings.get(f'{itsp}ProxyServerPort', '5060')}",
                transport=settings.get(f"{itsp}ProxyServerTransport", "UDP").lower(),
                display_name=display,
                label=settings.get(f"{sp}X_DisplayLabel", display),
                outbound_proxy=f"{proxy}:{settings.get(f'{itsp}OutboundProxyPort', '5060')}" if proxy else "",
            )
        )
    return lines


def _obi_next_url(settings: Mapping[str, str]) -> str | None:
    url = settings.get("X_DeviceManagement.ITSPProvisioning.ConfigURL", "").rpartition(" ")[2]
    return url.rpartition("/")[0] + "/" if "://" in url else None


# --- AudioCodes -----------------------------------------------------------------------------------------------------


def _audiocodes_agent(model: Model, mac: Mac) -> str:
    return f"AUDC-IPPhone/2.2.16.704 ({model.name}-Rev0; {mac.upper()})"


async def _boot_audiocodes(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    url = flash.settings.get("provisioning/configuration/url", "")
    names = [_absolute(wire, url.replace("<MAC>", mac.upper()))] if url else [f"{model.name}.cfg", f"{mac.upper()}.cfg"]
    for name in names:
        data = await wire.get(name)
        if data is not None and is_new(flash, name, data):
            wire.mark_applied()
            flash.apply(name, audiocodes_settings(data), is_overwriting=False)


def audiocodes_settings(data: bytes) -> dict[str, str]:
    """One `name=value` a line, blanks around both lost; a line that begins with a semicolon is a comment."""
    found = {}
    for row in re.split(r"\r\n|\r|\n", data.decode("utf-8", "replace")):
        name, separator, value = row.partition("=")
        if separator and not name.lstrip().startswith(";"):
            found[name.strip()] = value.strip()
    return found


def _audiocodes_lines(settings: Mapping[str, str]) -> list[LineResult]:
    sip = "voip/signalling/sip/"
    has_proxy = settings.get(f"{sip}sip_outbound_proxy/enabled") == "1"
    proxy = f"{settings.get(f'{sip}sip_outbound_proxy/addr')}:{settings.get(f'{sip}sip_outbound_proxy/port')}"
    registrar = f"{settings.get(f'{sip}proxy_address')}:{settings.get(f'{sip}proxy_port')}"
    lines = []
    for number in range(1, _MAX_LINES + 1):
        n = f"voip/line/{number - 1}/"
        if settings.get(f"{n}enabled") != "1":
            continue
        user, auth = settings.get(f"{n}id", ""), settings.get(f"{n}auth_name", "")
        secret, label = settings.get(f"{n}auth_password", ""), settings.get(f"{n}extension_display", "")
        over, display = settings.get(f"{sip}transport_protocol", "UDP").lower(), settings.get(f"{n}description", "")
        lines.append(
            LineResult(number, user, auth, secret, registrar, over, display, label, proxy if has_proxy else "")
        )
    return lines


def _audiocodes_next_url(settings: Mapping[str, str]) -> str | None:
    url = settings.get("provisioning/configuration/url", "")
    return url.rpartition("/")[0] + "/" if url else None


# --- Linphone -------------------------------------------------------------------------------------------------------


def _linphone_agent(model: Model, _mac: Mac) -> str:
    name = {"Desktop": "Linphone-Desktop/5.2.6 (front-desk) ubuntu/22.04 Qt/5.15.2"}.get(model.name)
    name = name or (f"Linphone{model.name}/5.2.3 (Pixel 7)" if model.name != "SDK" else "Lobby/1.0")
    return f"{name} LinphoneSDK/5.3.72"


async def _boot_linphone(wire: Wire, flash: Memory, _model: Model, mac: Mac) -> None:
    name = _absolute(wire, flash.settings.get("misc/config-uri") or f"linphone-{mac}.xml")
    data = await wire.get(name)
    if data is not None:
        wire.mark_applied()
        flash.apply(name, elements(data), is_overwriting=False)


def _linphone_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(_MAX_LINES):
        identity = _ADDRESS.match(settings.get(f"proxy_{number}/reg_identity", ""))
        server = _ADDRESS.match(settings.get(f"proxy_{number}/reg_proxy", ""))
        if identity is None or server is None or settings.get(f"proxy_{number}/reg_sendregister") != "1":
            continue
        route = _ADDRESS.match(settings.get(f"proxy_{number}/reg_route", ""))
        place, _, parameters = server["rest"].partition(";")
        display = re.sub(r"\\(.)", r"\1", identity["name"] or "")
        lines.append(
            LineResult(
                key=number + 1,
                sip_user=settings.get(f"auth_info_{number}/username", ""),
                auth_user=settings.get(f"auth_info_{number}/userid", ""),
                secret=settings.get(f"auth_info_{number}/passwd", ""),
                registrar=place,
                transport=parameters.removeprefix("transport="),
                display_name=display,
                label=display,
                outbound_proxy=route["rest"].partition(";")[0] if route is not None else "",
            )
        )
    return lines


def _linphone_next_url(settings: Mapping[str, str]) -> str | None:
    url = settings.get("misc/config-uri", "")
    return url.rpartition("/")[0] + "/" if url else None


# --- Acrobits -------------------------------------------------------------------------------------------------------


def _acrobits_agent(model: Model, _mac: Mac) -> str:
    return f"{model.name}/25.1.5 (build 1837942; iOS 18.1)"


async def _boot_acrobits(wire: Wire, flash: Memory, _model: Model, mac: Mac) -> None:
    name = _absolute(wire, flash.settings.get("extProvUrl") or f"acrobits-{mac}.xml")
    data = await wire.get(name)
    if data is not None:
        wire.mark_applied()
        flash.apply(name, acrobits_settings(data), is_overwriting=True)


def acrobits_settings(data: bytes) -> dict[str, str]:
    """The children of `<account>`, and the rules of its number rewriting with their places."""
    account = {name: value for name, value in elements(data).items() if name not in {"condition", "action"}}
    return account | dict(settings_in("acrobits", data.decode("utf-8", "replace")))


def _acrobits_lines(settings: Mapping[str, str]) -> list[LineResult]:
    user = settings.get("username", "")
    if not user:
        return []
    over = settings.get("transport", "udp").removesuffix("+sip:")
    host = settings.get("host", "")
    registrar = host if ":" in host else f"{host}:{5061 if over == 'tls' else 5060}"
    auth, secret = settings.get("authUsername") or user, settings.get("password", "")
    display, label = settings.get("userDisplayName", ""), settings.get("title", "")
    return [LineResult(1, user, auth, secret, registrar, over, display, label, settings.get("proxy", ""))]


def _acrobits_next_url(settings: Mapping[str, str]) -> str | None:
    url = settings.get("extProvUrl", "")
    return url.rpartition("/")[0] + "/" if url else None


def _no_pages(settings: Mapping[str, str]) -> str | None:
    """An application has no pages of its own that a password would guard."""
    del settings
    return None


FAMILIES: Mapping[str, Family] = {
    "obihai": Family(
        _obi_agent, _boot_obi, _obi_lines, named("X_DeviceManagement.WebServer.AdminPassword"), _obi_next_url
    ),
    "audiocodes": Family(
        _audiocodes_agent, _boot_audiocodes, _audiocodes_lines, named("system/password"), _audiocodes_next_url
    ),
    "linphone": Family(_linphone_agent, _boot_linphone, _linphone_lines, _no_pages, _linphone_next_url),
    "acrobits": Family(_acrobits_agent, _boot_acrobits, _acrobits_lines, _no_pages, _acrobits_next_url),
}
