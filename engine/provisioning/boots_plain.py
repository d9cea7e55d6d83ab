"""How phones boot that ask for a fixed list of files: Mitel, Htek, Panasonic, Sangoma, Avaya, Gigaset, Algo.

Mitel: `security.tuz`, then `startup`, `<model>` and `<MAC>`, each as `.tuz` and then as `.cfg`. Htek: the model's
common file, `cfg<mac>.xml`. Panasonic: `<model>.cfg`, then what `CFG_STANDARD_FILE_PATH` in it names. Sangoma:
`<mac>.cfg`. Avaya: `J100Supgrade.txt`, then what its GET lines name, until one is there. Gigaset: `<MAC>.xml`, and
`master.bin` before it on the older bases. Algo: for the model and then for the device the checksum, and the file only
where the checksum is another than last time.
"""

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

from engine.provisioning.booting import Family, LineResult, Memory, Wire, is_new, named
from engine.provisioning.formats import elements
from engine.provisioning.vendors import Mac, Model

_MAX_LINES = 100
_TRANSPORTS = {"0": "udp", "1": "tcp", "2": "tls"}
_COMMENT = re.compile(r"\s+#.*$")


def _colons(mac: Mac, separator: str = ":") -> str:
    return separator.join(mac[at : at + 2] for at in range(0, 12, 2))


def _joined(host: str, port: str) -> str:
    return f"{host}:{port or 5060}" if host else ""


# --- Mitel ----------------------------------------------------------------------------------------------------------


def _mitel_agent(model: Model, mac: Mac) -> str:
    brand = "Aastra" if model.name.endswith("i") else "Mitel"
    return f"{brand}{model.name} MAC:{_colons(mac, '-').upper()} V:6.4.0.140-SIP"


async def _boot_mitel(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    await wire.get("security.tuz")
    flash.applied.clear()  # what the files do not say any more is not kept
    for stems in (("startup", "aastra"), (model.name,), (mac.upper(),)):
        for stem in stems:
            if await wire.get(f"{stem}.tuz") is not None:
                return  # encrypted by the vendor's tool: this phone was given no key
            data = await wire.get(f"{stem}.cfg")
            if data is not None:
                wire.mark_applied()
                flash.apply(f"{stem}.cfg", mitel_settings(data), is_overwriting=True)
                break


def mitel_settings(data: bytes) -> dict[str, str]:
    """`key: value` as the phone reads it: a `#` begins a comment, unless the value stands in quotes."""
    found = {}
    for row in data.decode("utf-8", "replace").split("\n"):
        name, separator, value = row.partition(":")
        if not separator or name.lstrip().startswith("#"):
            continue
        text = value.strip()
        quoted = text.startswith('"') and text.find('"', 1) > 0
        found[name.strip()] = text[1 : text.index('"', 1)] if quoted else _COMMENT.sub("", text)
    return found


def _mitel_lines(settings: Mapping[str, str]) -> list[LineResult]:
    over = {"1": "udp", "2": "tcp", "4": "tls"}.get(settings.get("sip transport protocol", ""), "")
    lines = []
    for number in range(1, _MAX_LINES):
        n = f"sip line{number} "
        user = settings.get(f"{n}user name")
        if user:
            place = _joined(settings.get(f"{n}registrar ip", ""), settings.get(f"{n}registrar port", ""))
            proxy = _joined(settings.get(f"{n}outbound proxy", ""), settings.get(f"{n}outbound proxy port", ""))
            auth, secret = settings.get(f"{n}auth name", ""), settings.get(f"{n}password", "")
            display, label = settings.get(f"{n}display name", ""), settings.get(f"{n}screen name", "")
            lines.append(LineResult(number, user, auth, secret, place, over, display, label, proxy))
    return lines


def _mitel_next_url(settings: Mapping[str, str]) -> str | None:
    scheme = settings.get("download protocol", "").lower()
    host = settings.get(f"{scheme} server", "")
    port = settings.get(f"{scheme} port", "")
    place = host if port in {"", {"http": "80", "https": "443"}.get(scheme)} else f"{host}:{port}"
    return f"{scheme}://{place}/{settings.get(f'{scheme} path', '')}/" if host else None


# --- Htek -----------------------------------------------------------------------------------------------------------

# active, server, outbound proxy, transport, label, user, authentication, password, name: the numbers of the accounts
_HTEK = (
    (271, 47, 48, 130, 20000, 35, 36, 34, 3),
    (401, 747, 748, 830, 20001, 735, 736, 734, 703),
    (501, 502, 503, 930, 20002, 504, 505, 506, 507),
    (601, 602, 603, 1030, 20003, 604, 605, 606, 607),
)


def _htek_agent(model: Model, mac: Mac) -> str:
    return f"Htek {model.name} 2.42.6.5.6 {_colons(mac)}"


async def _boot_htek(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    names = [f"cfg{model.common_id:04d}.xml"] if model.common_id is not None else []
    for name in (*names, f"cfg{mac}.xml"):
        data = await wire.get(name)
        if data is not None:
            wire.mark_applied()
            flash.apply(name, htek_settings(data), is_overwriting=False)


def htek_settings(data: bytes) -> dict[str, str]:
    """The numbered elements inside `<config>`."""
    return {name.rpartition(".")[2]: value for name, value in elements(data).items()}


def _htek_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number, names in enumerate(_HTEK, 1):
        active, server, proxy, transport, label, user, auth, secret, display = (
            settings.get(f"P{name}", "") for name in names
        )
        if active == "1":
            over = _TRANSPORTS.get(transport, "")
            lines.append(LineResult(number, user, auth, secret, server, over, display, label, proxy))
    return lines


# --- Panasonic ------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(r'(\w+)="([^"\n]*)"\Z')


def _panasonic_agent(model: Model, mac: Mac) -> str:
    return f"Panasonic_{model.name}/01.302 ({mac})"


async def _boot_panasonic(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    path = flash.settings.get("CFG_STANDARD_FILE_PATH", "")
    if not path:
        product = await wire.get(f"{model.name}.cfg")
        if product is not None:
            wire.mark_applied()
            flash.apply(f"{model.name}.cfg", panasonic_settings(product), is_overwriting=False)
        path = flash.settings.get("CFG_STANDARD_FILE_PATH", "")
    filled = path.replace("{MAC}", mac.upper()).replace("{mac}", mac).replace("{MODEL}", model.name)
    base, _, name = filled.rpartition("/")
    if name:
        wire.base = f"{base}/"
        data = await wire.get(name)
        if data is not None and is_new(flash, name, data):
            wire.mark_applied()
            flash.apply(name, panasonic_settings(data), is_overwriting=False)


def panasonic_settings(data: bytes) -> dict[str, str]:
    """`KEY="value"`, each line ended by CR LF. A file without the format's own comment at its head is thrown away."""
    rows = data.decode("utf-8", "replace").split("\r\n")
    if not rows[0].startswith("# Panasonic SIP Phone Standard Format File #"):
        return {}
    return {found[1]: found[2] for row in rows if (found := _QUOTED.match(row))}


def _panasonic_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, _MAX_LINES):
        user = settings.get(f"PHONE_NUMBER_{number}")
        if not user or settings.get(f"LINE_ENABLE_{number}") == "Disabled":
            continue
        place = _joined(settings.get(f"SIP_RGSTR_ADDR_{number}", ""), settings.get(f"SIP_RGSTR_PORT_{number}", ""))
        proxy = _joined(
            settings.get(f"SIP_OUTPROXY_ADDR_{number}", ""), settings.get(f"SIP_OUTPROXY_PORT_{number}", "")
        )
        auth, secret = settings.get(f"SIP_AUTHID_{number}", ""), settings.get(f"SIP_PASS_{number}", "")
        over, display = _TRANSPORTS.get(settings.get(f"SIP_TRANSPORT_{number}", "0"), ""), f"DISPLAY_NAME_{number}"
        lines.append(LineResult(number, user, auth, secret, place, over, settings.get(display, ""), user, proxy))
    return lines


def _panasonic_next_url(settings: Mapping[str, str]) -> str | None:
    path = settings.get("CFG_STANDARD_FILE_PATH", "")
    return path.rpartition("/")[0] + "/" if path else None


# --- Sangoma --------------------------------------------------------------------------------------------------------


def _sangoma_agent(model: Model, mac: Mac) -> str:
    brand = "Digium" if model.name.startswith("D") else "Sangoma"
    return f"{brand} {model.name} 2_9_26 {_colons(mac)}"


async def _boot_sangoma(wire: Wire, flash: Memory, _model: Model, mac: Mac) -> None:
    name = f"{mac}.cfg"
    data = await wire.get(name)
    if data is not None:
        wire.mark_applied()
        flash.applied.clear()
        flash.apply(name, sangoma_settings(data), is_overwriting=True)
        for sheet in sangoma_sheets(data, mac):
            await wire.get(sheet)


def sangoma_sheets(data: bytes, mac: Mac) -> list[str]:
    """The files of the phone's own that its configuration names: whom its keys call, which key shows whom."""
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return []
    urls = [one.get("url", "") for one in (*root.iter("contacts"), *root.iter("blf_items"))]
    return [name for url in urls if (name := url.rpartition("/")[2]).startswith(mac)]


def sangoma_settings(data: bytes) -> dict[str, str]:
    """`<setting id value>` by id; what stands in an account by `account.<index>.<attribute>`, its server by
    `account.<index>.host.<attribute>`. The plan of the account dialled from, the first, is `dial_plan`.
    """
    found = {}
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return {}
    for setting in root.iter("setting"):
        found[setting.get("id", "")] = setting.get("value", "")
    for account in root.iter("account"):
        n = f"account.{account.get('index')}."
        found |= {n + name: value for name, value in account.attrib.items()}
        found.setdefault("dial_plan", account.get("dial_plan", ""))
        for host in account.iter("host_primary"):
            found |= {f"{n}host.{name}": value for name, value in host.attrib.items()}
    return found


def _sangoma_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for index in range(_MAX_LINES):
        n = f"account.{index}."
        if settings.get(f"{n}register") != "1":
            continue
        place = _joined(settings.get(f"{n}host.server", ""), settings.get(f"{n}host.port", ""))
        proxy = _joined(settings.get(f"{n}outbound_proxy", ""), settings.get(f"{n}outbound_port", ""))
        user, auth, secret, display, label = (
            settings.get(n + name, "") for name in ("username", "authname", "password", "caller_id", "line_label")
        )
        over = settings.get(f"{n}host.transport", "")
        lines.append(LineResult(index + 1, user, auth, secret, place, over, display, label, proxy))
    return lines


# --- Avaya ----------------------------------------------------------------------------------------------------------

_SET = re.compile(r'^SET (\w+) (?:"([^"]*)"|(\S*))\s*$')
_GET = re.compile(r"^GET (\S+)\s*$", re.MULTILINE)


def _avaya_agent(model: Model, mac: Mac) -> str:
    if model.name.startswith("SIP"):
        return f"AVAYA/{model.name}/04.00.04.00"
    return f"Mozilla/4.0 (compatible; MSIE 6.0) AVAYA/{model.name}-4.1.3.0.6 (MAC:{mac})"


async def _boot_avaya(wire: Wire, flash: Memory, _model: Model, mac: Mac) -> None:
    upgrade = await wire.get("J100Supgrade.txt")
    if upgrade is None:
        return
    wire.mark_applied()
    for wanted in _GET.findall(upgrade.decode("utf-8", "replace")):
        name = wanted.replace("$MACADDR", mac)
        data = await wire.get(name)
        if data is not None:  # the rest of the file that named it is not read
            wire.mark_applied()
            flash.apply(name, avaya_settings(data), is_overwriting=True)
            return


def avaya_settings(data: bytes) -> dict[str, str]:
    """`SET NAME "value"`; `##` begins a comment."""
    rows = data.decode("utf-8", "replace").split("\n")
    return {found[1]: found[2] if found[2] is not None else found[3] for row in rows if (found := _SET.match(row))}


def _avaya_lines(settings: Mapping[str, str]) -> list[LineResult]:
    user = settings.get("FORCE_SIP_EXTENSION", "")
    if not user:
        return []
    controller, _, parameters = settings.get("SIP_CONTROLLER_LIST", "").partition(";")
    domain, display = settings.get("SIPDOMAIN", ""), settings.get("DISPLAY_NAME", "")
    is_direct = controller.rpartition(":")[0] == domain
    return [
        LineResult(
            key=1,
            sip_user=user,
            auth_user=settings.get("FORCE_SIP_USERNAME", ""),
            secret=settings.get("FORCE_SIP_PASSWORD", ""),
            registrar=controller if is_direct else _joined(domain, ""),
            transport=parameters.removeprefix("transport="),
            display_name=display,
            label=display,
            outbound_proxy="" if is_direct else controller,
        )
    ]


def _avaya_next_url(settings: Mapping[str, str]) -> str | None:
    for scheme, stem, usual in (("https", "TLS", "443"), ("http", "HTTP", "80")):
        host, port = settings.get(f"{stem}SRVR", ""), settings.get("TLSPORT" if stem == "TLS" else "HTTPPORT", usual)
        if host:
            return f"{scheme}://{host if port == usual else f'{host}:{port}'}/{settings.get(f'{stem}DIR', '')}/"
    return None


# --- Gigaset --------------------------------------------------------------------------------------------------------


def _gigaset_agent(model: Model, mac: Mac) -> str:
    return f"Gigaset {model.name}/83.V2.65.0+build.a546b91;{mac.upper()}"


async def _boot_gigaset(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    if model.name.startswith(("N510", "N720")):
        await wire.get("42/2/master.bin" if model.name.startswith("N510") else "70/222/baselines.bin")
    name = f"{mac.upper()}.xml"
    data = await wire.get(name)
    if data is not None and is_new(flash, name, data):
        wire.mark_applied()
        flash.apply(name, gigaset_settings(data), is_overwriting=True)


def gigaset_settings(data: bytes) -> dict[str, str]:
    """Every `<param name value>`."""
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return {}
    return {one.get("name", ""): one.get("value", "") for one in root.iter("param")}


def _gigaset_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, _MAX_LINES):
        n = f"SipAccount.{number:05d}."
        user = settings.get(f"{n}UserName")
        if not user:
            continue
        p = f"SipProvider.{settings.get(f'{n}ProviderId', '0')}."
        place = _joined(settings.get(f"{p}RegServerAddress", ""), settings.get(f"{p}RegServerPort", ""))
        proxy = _joined(settings.get(f"{p}OutboundProxyAddress", ""), settings.get(f"{p}OutboundProxyPort", ""))
        over = {"1": "udp", "2": "tcp", "3": "tls"}.get(settings.get(f"{p}TransportProtocol", ""), "")
        auth, secret = settings.get(f"{n}AuthName", ""), settings.get(f"{n}AuthPassword", "")
        display = settings.get(f"{n}DisplayName", "")
        lines.append(LineResult(number, user, auth, secret, place, over, display, display, proxy))
    return lines


# --- Algo -----------------------------------------------------------------------------------------------------------


def _algo_agent(model: Model, mac: Mac) -> str:
    return f"Algo-{model.name}/5.5.0 ({_colons(mac)})"


async def _boot_algo(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    for name in (f"algop{model.name}.conf", f"algom{mac.upper()}.conf"):
        checksum = await wire.get(f"{name}.md5")
        digest = checksum.decode("ascii", "replace").split()[0] if checksum else ""
        if not digest or flash.digests.get(name) == digest:
            continue
        data = await wire.get(name)
        if data is not None and is_new(flash, name, data):
            if flash.digests[name] != digest.lower():
                del flash.digests[name]  # broken on its way: it is asked for again at the next boot
                continue
            wire.mark_applied()
            flash.apply(name, algo_settings(data), is_overwriting=False)


def algo_settings(data: bytes) -> dict[str, str]:
    """`key = value`; only a whole line can be a comment."""
    found = {}
    for row in data.decode("utf-8", "replace").split("\n"):
        name, separator, value = row.partition("=")
        if separator and not row.startswith("#"):
            found[name.strip()] = value.strip()
    return found


def _algo_lines(settings: Mapping[str, str]) -> list[LineResult]:
    user = settings.get("sip.u1.user", "")
    if not user:
        return []
    host, _, port = settings.get("sip.proxy", "").partition(":")
    display = settings.get("sip.u1.dname", "")
    return [
        LineResult(
            key=1,
            sip_user=user,
            auth_user=settings.get("sip.u1.auth", ""),
            secret=settings.get("sip.u1.pwd", ""),
            registrar=_joined(host, port),
            transport=settings.get("sip.transp", ""),
            display_name=display,
            label=display,
            outbound_proxy=settings.get("sip.obproxy", ""),
        )
    ]


def _algo_next_url(settings: Mapping[str, str]) -> str | None:
    host, path = settings.get("prov.server.static", ""), settings.get("prov.download.cfgpath", "")
    return f"{settings.get('prov.download.method', 'http')}://{host}/{path}/" if host else None


# --- By vendor ------------------------------------------------------------------------------------------------------


def _sangoma_next_url(settings: Mapping[str, str]) -> str | None:
    url = settings.get("config_server_url", "")
    return url.rpartition("/")[0] + "/" if url else None


FAMILIES: Mapping[str, Family] = {
    "mitel": Family(_mitel_agent, _boot_mitel, _mitel_lines, named("admin password"), _mitel_next_url),
    "htek": Family(_htek_agent, _boot_htek, _htek_lines, named("P2"), named("P237")),
    "panasonic": Family(_panasonic_agent, _boot_panasonic, _panasonic_lines, named("ADMIN_PASS"), _panasonic_next_url),
    "sangoma": Family(_sangoma_agent, _boot_sangoma, _sangoma_lines, named("login_password"), _sangoma_next_url),
    "avaya": Family(_avaya_agent, _boot_avaya, _avaya_lines, named("FORCE_WEB_ADMIN_PASSWORD"), _avaya_next_url),
    "gigaset": Family(
        _gigaset_agent,
        _boot_gigaset,
        _gigaset_lines,
        named("WebUIAccounts.1.Password"),
        named("Provisioning.global.ProvisioningServer"),
    ),
    "algo": Family(_algo_agent, _boot_algo, _algo_lines, named("admin.pwd"), _algo_next_url),
}
