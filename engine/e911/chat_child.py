"""The process that speaks with SMS and chat services by Apprise: `python -m engine.e911.chat_child`.

Theory of operation. The library is blocking and made by others, and its addresses are typed by whoever runs an account.
So it runs in a process of its own, which the courier ends when a service hangs, and which has nothing of this server:
no environment, no database, no keys. Before the first message it shuts a gate on itself (PEP 578): connections go
where requests to typed addresses may go (docs/decisions/0034) and nowhere else, whatever name or redirect led there; no
program is started and no file read but Python's own. What is refused there is told in words.

A line of JSON comes in for each message, a line goes out with what became of it. Without one for a while it ends.
"""

import ipaddress
import json
import mimetypes
import os
import select
import socket
import sys
from collections.abc import Mapping
from typing import Any

import apprise
from requests import sessions

from engine.e911.chat_services import SCHEMES, shown, without_secrets
from engine.outbound import Outbound, one_line

IDLE_S = 60.0
MAX_WORDS = 300
_NEVER = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "socket.bind", "socket.send")
_READABLE = tuple(
    os.path.realpath(root) + os.sep for root in (sys.prefix, sys.base_prefix, "/usr/lib", "/usr/share", "/etc/ssl")
)


class Gate:
    """What this process may do once it is shut. `refusal`: the newest that it refused, in words."""

    def __init__(self, outbound: Outbound) -> None:
        self.refusal, self.is_clear = "", False
        self._outbound = outbound

    def shut(self) -> None:
        """From here on, for good."""
        sys.addaudithook(self._seen)

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self._connecting(*args)
        elif event == "open":
            self._opening(args[0], args[1])
        elif event.startswith(_NEVER):
            raise PermissionError(f"{event} is not for a message")

    def _connecting(self, connecting: socket.socket, address: Any) -> None:
        is_internet = connecting.family in {socket.AF_INET, socket.AF_INET6}
        if is_internet and self._outbound.may_reach(str(address[0]), is_clear=self.is_clear):
            return
        where = str(address[0]) if is_internet else "this machine"
        why = "and plain http is for networks that [outbound] networks lists" if self.is_clear else "no public address"
        self.refusal = f"It leads to {where}, {why}. List its network under [outbound] networks if it is meant."
        raise PermissionError(self.refusal)

    @staticmethod
    def _opening(path: Any, mode: Any) -> None:
        if isinstance(path, int):
            return
        name = os.path.realpath(os.fsdecode(path))
        if not name.startswith(_READABLE) or (isinstance(mode, str) and not mode.startswith("r")):
            raise PermissionError("no file is for a message")


def read_address(url: str, *, may_be_clear: bool) -> tuple[apprise.NotifyBase | None, dict[str, Any]]:
    """The library's own idea of an address: what it is, or `fault` in words."""
    plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if plugin is None:
        return None, {"fault": "The service does not know such an address: a part is missing or of the wrong form."}
    clear, secure = _schemes(plugin.protocol), _schemes(plugin.secure_protocol)
    typed = url.partition("://")[0].casefold()
    scheme = typed if typed in clear | secure else min(secure or clear)
    if scheme not in SCHEMES:
        return None, {"fault": f"{scheme}:// is no service that messages leave by."}
    is_clear = typed in clear
    if is_clear and not may_be_clear:
        better = f"Expected {min(secure)}://" if secure else "Expected a service that is reached by https"
        return None, {"fault": f"{better}; plain http is for networks that [outbound] networks lists."}
    if not plugin.verify_certificate:
        return None, {"fault": "Certificates are always checked: leave verify out of the address."}
    if len(plugin) > 1:
        detail = f"It names {len(plugin)} targets. Add one for each, so that a second try tells nobody twice."
        return None, {"fault": detail}
    facts = {"service": str(plugin.service_name)[:80], "shown": shown(scheme, url), "is_clear": is_clear}
    return plugin, facts | {"fault": ""}


def send(gate: Gate, plugin: apprise.NotifyBase, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One try; `words` say why it failed, without the address's secrets."""
    gate.refusal = ""
    capture: Any = apprise.LogCapture  # without types
    with capture(level=apprise.logging.WARNING, fmt="%(message)s") as said:
        is_ok = bool(plugin.notify(body=asked["body"], title=asked["title"], notify_type=apprise.NotifyType.WARNING))
        words = gate.refusal or without_secrets(said.getvalue(), asked["url"])
    return {"is_ok": is_ok, "words": "" if is_ok else one_line(words)[:MAX_WORDS] or "The service did not take it."}


def _schemes(protocol: Any) -> frozenset[str]:
    if not protocol:
        return frozenset()
    return frozenset({protocol} if isinstance(protocol, str) else protocol)


def _answer(gate: Gate, asked: Mapping[str, Any], *, may_be_clear: bool) -> dict[str, Any]:
    plugin, facts = read_address(asked["url"], may_be_clear=may_be_clear)
    if plugin is None or asked["do"] == "check":
        return facts
    gate.is_clear = facts["is_clear"]
    return facts | send(gate, plugin, asked)


def main() -> None:
    """Serve until standard input ends, or nothing comes for a while."""
    networks = tuple(ipaddress.ip_network(text) for text in json.loads(sys.argv[1]))
    gate = Gate(Outbound(networks))
    vars(sessions)["DEFAULT_REDIRECT_LIMIT"] = 0  # a message goes where its address says
    mimetypes.init()
    apprise.Apprise.instantiate("json://localhost")
    gate.shut()
    while select.select([sys.stdin], [], [], IDLE_S)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        try:
            told = _answer(gate, asked, may_be_clear=bool(networks))
        except Exception as exc:  # noqa: BLE001  # one strange answer must not end the others' messages
            words = f"The library stumbled ({type(exc).__name__})."
            told = {"fault": words if asked["do"] == "check" else "", "is_ok": False, "words": words}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
