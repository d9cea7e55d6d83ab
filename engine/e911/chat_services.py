"""Which services an SMS or chat message may leave by, and what is shown of an address there (pure).

Addresses are those of Apprise (https://github.com/caronc/apprise): `service://secrets/target`. It knows many more
services; here are those that are reached over HTTPS, by whoever is named in the address, and by nothing else of this
machine: no desktop, no log, no file, no program. Mails have a way of their own.
"""

from urllib.parse import parse_qsl, unquote, urlsplit

MAX_URL_CHARS = 1000
MAX_SHOWN_END = 4
SCHEMES = frozenset(
    {
        # chats
        "slack", "workflow", "workflows", "discord", "gchat", "wxteams", "webex", "zulip", "tgram", "mmost", "mmosts",
        "rocket", "rockets", "matrix", "matrixs", "nctalk", "nctalks", "synology", "synologys", "dingtalk", "feishu",
        "lark", "line", "twist", "ryver", "flock", "guilded", "revolt", "threema", "signal", "signals", "whatsapp",
        "viber", "zoom", "cliq", "zcliq", "zohocliq",
        # SMS
        "twilio", "telnyx", "plivo", "vonage", "nexmo", "sns", "sinch", "msgbird", "clicksend", "clickatell", "bulksms",
        "bulkvs", "burstsms", "d7sms", "46elks", "elks", "infobip", "kaleyra", "kavenegar", "klr", "msg91", "httpsms",
        "octopush", "seven", "serwersms", "sfr", "freemobile", "smsc", "smseagle", "smseagles", "smsmanager", "smsmgr",
        "telesign", "voipms", "ringc", "exotel", "gupshup", "cm",
        # push, paging and what takes plain JSON
        "pover", "pbul", "ntfy", "ntfys", "gotify", "gotifys", "pagerduty", "opsgenie", "pagertree", "squadcast",
        "victorops", "splunk", "signl4", "spike", "ilert", "incidentio", "firehydrant", "betterstack", "goalert",
        "goalerts", "xmatters", "json", "jsons", "form", "forms", "xml", "xmls",
    }
)  # fmt: skip
# Settings of an address that would read a file of this machine, trust any certificate, or make one try many.
REFUSED_SETTINGS = frozenset({"verify", "template", "attach", "retry", "redirect", "cert", "key", "ca"})
_EXPECTED = "Expected an address such as slack://token/#channel or twilio://sid:token@from/to, or the https:// address"


def fault_of(url: str) -> str:
    """What is wrong with an address as it is typed; empty when the library may be asked about it."""
    if not url or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url or "://" not in url:
        return f"{_EXPECTED} that the service gave you; at most {MAX_URL_CHARS} characters, no spaces."
    scheme = url.partition("://")[0].casefold()
    if scheme in {"mailto", "mailtos"}:
        return "Add an email address in its own field: mails leave by this installation's mail server."
    if scheme not in SCHEMES and scheme != "https":
        return f"{scheme}:// is no service that messages leave by. {_EXPECTED} that the service gave you."
    if refused := sorted(REFUSED_SETTINGS & {name.casefold() for name in settings_of(url)}):
        return f"Leave {', '.join(refused)} out of the address: certificates are always checked and no file is read."
    return ""


def settings_of(url: str) -> dict[str, str]:
    """What stands behind the question mark."""
    return dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))


def shown(scheme: str, url: str) -> str:
    """What pages and the audit log show: the service, and the last characters, which tell two addresses apart."""
    rest = unquote(url.partition("://")[2].partition("?")[0]).rstrip("/")
    end = "".join(char for char in rest[-MAX_SHOWN_END:] if char.isprintable())
    return f"{scheme}://…{end if len(rest) >= MAX_SHOWN_END * 3 else ''}"


def without_secrets(words: str, url: str) -> str:
    """What a service or library said of a try, with nothing in it that only the address knows."""
    host = urlsplit(url).hostname if "://" in url else None
    parts = unquote(url.partition("://")[2])
    for char in "/:@?&=#,":
        parts = parts.replace(char, " ")
    for part in sorted({*parts.split(), *url.partition("://")[2].split("/")}, key=len, reverse=True):
        if len(part) >= 6 and part.casefold() != host:
            words = words.replace(part, "…")
    return words
