"""The phones behind the golden files: one configuration per tested model, chosen so that every branch of a template
shows.
"""

from dataclasses import replace
from pathlib import Path

from engine.provisioning import render, vendors
from engine.provisioning.functionkeys import FunctionKey, KeyKind
from engine.provisioning.render import LineConfig, PhoneConfig
from engine.provisioning.timezone import zone_rule
from engine.provisioning.vendors import FileKind, Profile, Support

ROOT = Path(__file__).parent / "phones"
ADDRESSES = {
    "yealink": "805ec0aabb", "poly": "64167faabb", "linphone": "0269f0aabb", "acrobits": "0269f1aabb",
}  # fmt: skip
ZONES = (
    "America/New_York",
    "America/Los_Angeles",
    "America/Phoenix",
    "Europe/London",
    "Asia/Kolkata",
    "America/St_Johns",
)


def line(number: int, *, transport: str, proxy: str) -> LineConfig:
    return LineConfig(
        number=number,
        key=number,
        label=f"10{number} Front & Back",
        display_name=f"Zoë “Desk” <{number}>",
        sip_user=f"10{number}",
        auth_user=f"auth10{number}",
        secret=f"p<{number}>&\"w'#=;\\",
        registrar_host="pbx.example.net",
        registrar_port=5061 if transport == "tls" else 5060,
        transport=transport,
        expires_s=600 * number,
        outbound_proxy_host=proxy,
        outbound_proxy_port=5080,
    )


def speakable(profile: Profile, one: LineConfig) -> LineConfig:
    """The line with a secret that this vendor's format can hold."""
    while profile.refused is not None and profile.refused.search(one.secret):
        one = replace(one, secret=profile.refused.sub("", one.secret))
    return one


def config(profile: Profile, model: str, number: int) -> PhoneConfig:
    """The configuration of the number-th tested model: transports, zones, VLAN, proxy and codecs vary with it."""
    mac = f"{ADDRESSES.get(profile.name) or min(profile.ouis) + 'aabb'}{number:02x}"
    transports = ("udp", "tcp", "tls")
    count = min(profile.models[model].lines, 1 + number % 3)
    return PhoneConfig(
        mac=mac,
        model=model,
        label=f"Lobby {number}",
        lines=tuple(
            speakable(
                profile,
                line(n, transport=transports[(n + number) % 3], proxy="sbc.example.net" if (n + number) % 2 else ""),
            )
            for n in range(1, count + 1)
        ),
        max_lines=profile.models[model].lines,
        admin_password="" if number == 4 else "Adm1n-Pass-word",
        ntp_server="pool.ntp.org",
        zone=zone_rule(ZONES[number % len(ZONES)]),
        provisioning_url=f"{'https' if number % 2 else 'http'}://phones.example.net/p/{'T' * 43}/",
        emergency_numbers=("911", "933", "9911") if number == 2 else ("911", "933"),
        is_nanp=number != 3,
        resync_minutes=render.with_jitter(render.DEFAULT_RESYNC_MINUTES, mac),
        resync_from_proxy=number % 2 == 0,
        codecs=("opus", "g722", "pcmu", "g729") if number % 2 else render.DEFAULT_CODECS,
        vlan_id=20 if number % 2 else None,
        lldp=number != 1,
        held_url="https://phones.example.net/held" if number == 2 else "",
    )


VALUES = {
    KeyKind.BLF: "102",
    KeyKind.SPEED_DIAL: "911",
    KeyKind.PARK: "701",
    KeyKind.PICKUP: "*8104",
    KeyKind.INTERCOM: "105",
    KeyKind.DTMF: "*12#",
    KeyKind.NONE: "",
}


def with_everything(profile: Profile, model: str, number: int) -> PhoneConfig:
    """The same phone with a key of every kind its family knows behind its lines, a phonebook, a logo and a firmware."""
    phone = config(profile, model, number)
    known = profile.models[model]
    first = len(phone.lines) + 1 if known.has_shared_keys else 1
    kinds = [kind for kind in (*KeyKind,) if kind in profile.key_kinds or kind is KeyKind.NONE]
    keys = tuple(
        FunctionKey(position, kind, VALUES[kind], f"{kind.title()} <&; é>" if kind is not KeyKind.NONE else "", 1)
        for position, kind in enumerate(kinds, first)
        if position <= known.keys
    )
    url = phone.provisioning_url
    return replace(
        phone,
        function_keys=keys,
        phonebook_url=url + profile.phonebook.replace("{mac}", phone.mac) if profile.phonebook else "",
        logo_url=f"{url}logo.png" if "logo" in known.takes else "",
        firmware_url=f"{url}fw-1.2.3.bin" if "firmware" in known.takes else "",
        firmware_version="1.2.3" if "firmware" in known.takes else "",
        ringtone_url=f"{url}bell.wav" if "ringtone" in known.takes else "",
    )


def everything_is_shown_on(profile: Profile) -> tuple[str, int]:
    """The tested model with the most keys, and its number among the tested ones."""
    tested = [model for model in profile.models.values() if model.support is Support.TESTED]
    number = max(range(len(tested)), key=lambda at: (tested[at].keys, len(tested[at].takes), -at))
    return tested[number].name, number


def rendered() -> dict[Path, bytes]:
    """Every golden file with the bytes it should hold: one per tested model, and each vendor's files that are for
    every phone.
    """
    known = vendors.load()
    renderer = render.Renderer(known)
    found: dict[Path, bytes] = {}
    for profile in known.profiles.values():
        tested = [model for model in profile.models.values() if model.support is Support.TESTED]
        for number, model in enumerate(tested):
            phone = config(profile, model.name, number)
            rule = next(rule for rule in profile.files if rule.template == "model")
            stem = vendors.spelled(model.name).lower()
            found[ROOT / profile.name / f"{stem}.cfg"] = renderer.render(profile, rule, phone)
        name, number = everything_is_shown_on(profile)
        rule = next(rule for rule in profile.files if rule.template == "model")
        path = ROOT / profile.name / f"{vendors.spelled(name).lower()}-everything.cfg"
        found[path] = renderer.render(profile, rule, with_everything(profile, name, number))
        shared = render.empty_config(
            profile,
            provisioning_url="http://phones.example.net/p/x/",
            timezone="America/Chicago",
            ntp_server="pool.ntp.org",
            emergency_numbers=("911", "933"),
            is_nanp=True,
        )
        for rule in profile.files:
            if rule.template not in {None, "model"}:
                is_own = "mac" in rule.pattern.groupindex
                name = f"{'mac' if is_own else 'all'}-{rule.kind}.cfg"
                phone = config(profile, tested[0].name, 0) if is_own else shared
                if rule.kind is FileKind.DIRECTORY:  # of keys
                    name = f"mac-{(rule.template or '').partition('.')[0]}.cfg"
                    phone = with_everything(profile, *everything_is_shown_on(profile))
                found[ROOT / profile.name / name] = renderer.render(profile, rule, phone)
    return found
