"""The races of RFC 3261 between two SIPp, a foreign PBX and foreign carriers, all at once through one edge.

By UDP, and by TCP all but those about what is repeated: on a stream nothing is.

Each race has an account of its own: a PBX at its own address, one or two carriers. What each side must see, in which
order, is SIPp's to judge (an unexpected message ends it with a fault); what was recorded is read from the journal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import crypto
from engine.e911.journal import JournalReader
from tests import peers, ports

WITHIN_S = 60.0
HERE = "[local_ip]:[local_port];transport=[transport]"
VIA = "Via: SIP/2.0/[transport] [local_ip]:[local_port]"
SDP = "v=0\no=- 39 39 IN IP4 [local_ip]\ns=call\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 40000 RTP/AVP 0\na=sendrecv"


def send(head: str, body: str = "", *, repeats: bool = False) -> str:
    """A message; `repeats`: until something is received, as RFC 3261 has it on UDP."""
    kind = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{body}" if body else "Content-Length: 0\n\n"
    attribute = ' retrans="500"' if repeats else ""
    return f"<send{attribute}><![CDATA[\n{head}\n{kind}\n]]></send>"


def ask(method: str, cseq: int = 1, *, branch: str = "", body: str = "", more: str = "") -> str:
    """The PBX outside a dialog; an ACK or CANCEL has its INVITE's branch."""
    head = (
        f"{method} sip:911@[remote_ip]:[remote_port] SIP/2.0\n"
        f"{VIA};branch=z9hG4bK[pid]{branch or cseq};rport\n"
        "From: <sip:101@[local_ip]:[local_port]>;tag=[pid]pbx\n"
        f"To: <sip:911@[remote_ip]:[remote_port]>{'[peer_tag_param]' if method == 'ACK' else ''}\n"
        f"Call-ID: [call_id]\nCSeq: {cseq} {method}\nContact: <sip:101@{HERE}>\nMax-Forwards: 70"
    )
    return send(head + more, body, repeats=method == "INVITE")


def within(method: str, cseq: int, tag: str, *, branch: str = "", body: str = "", more: str = "") -> str:
    """The PBX inside the dialog with the carrier's tag, by its route set."""
    head = (
        f"{method} [next_url] SIP/2.0\n"
        f"{VIA};branch=z9hG4bK[pid]{branch or method}{cseq}{tag};rport\n[routes]\n"
        "From: <sip:101@[local_ip]:[local_port]>;tag=[pid]pbx\n"
        f"To: <sip:911@[remote_ip]:[remote_port]>;tag={tag}\nCall-ID: [call_id]\nCSeq: {cseq} {method}\n"
        f"Contact: <sip:101@{HERE}>\nMax-Forwards: 70"
    )
    return send(head + more, body, repeats=method != "ACK")


def answer(status: int, tag: str = "one", *, to: str = "", body: str = "", more: str = "") -> str:
    """The carrier, to what it received last, or `to` the INVITE it kept before."""
    via = "[$own]\n[$pbx]" if to else "[last_Via:]"
    record_route = "[$route]\n" if to else "[last_Record-Route:]\n"
    cseq = f"CSeq: 1 {to}" if to else "[last_CSeq:]"
    tagged = f";tag={tag}" if tag else ""
    head = (
        f"SIP/2.0 {status} Whatever\n{via}\n{record_route}[last_From:]\n[last_To:]{tagged}\n[last_Call-ID:]\n{cseq}\n"
        f"Contact: <sip:psap@{HERE}>"
    )
    return send(head + more, body)


def hear(what: int | str, *, routes: bool = False, optional: bool = False, keeps: bool = False) -> str:
    """Wait for a response or request. `keeps`: its Via and Record-Route lines, to answer it after others came."""
    kind = "response" if isinstance(what, int) else "request"
    more = ' rrs="true"' * routes + ' optional="true"' * optional
    if not keeps:
        return f'<recv {kind}="{what}"{more}/>'
    saved = {
        "own": "Via: SIP/2.0/[UDTCP]* 127.0.0.1[-a-zA-Z0-9:;=.]*",
        "pbx": "Via: SIP/2.0/[UDTCP]* 127.0.1.[-a-zA-Z0-9:;=.]*",
        "route": "Record-Route: [-a-zA-Z0-9:;=.&lt;&gt;_]*",
    }
    regular = "".join(f'<ereg regexp="{r}" search_in="msg" check_it="true" assign_to="{n}"/>' for n, r in saved.items())
    return f'<recv {kind}="{what}"{more}><action>{regular}</action></recv>'


def wait(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>'


@dataclass(frozen=True)
class Race:
    """What the PBX and each carrier do, and how the call must be recorded: outcomes in order, then attempts.

    `is_scripted`: every repetition is in the script; SIPp neither sends nor overlooks one of its own. `is_located`: the
    carriers take locations, so that one that says nothing at all is asked again without.
    """

    pbx: list[str]
    carriers: list[list[str]]
    outcomes: list[str]
    attempts: list[str]
    is_scripted: bool = False
    is_located: bool = True

    @property
    def words(self) -> list[str]:
        return ["-m", "1", "-timeout", f"{int(WITHIN_S)}s", *(["-nr"] if self.is_scripted else [])]


TRYING, RINGS = hear(100), hear(180, routes=True)
ANSWERED = hear(200, routes=True)
GIVES_UP = [ask("CANCEL"), hear(200)]
ENDS = [within("BYE", 9, "one"), hear(200)]
IS_ENDED = [hear("BYE"), answer(200, "")]
LATER = hear("INVITE", keeps=True)
RELIABLE = "\nRequire: 100rel\nRSeq: 7"
RACES = {
    "2xx beats CANCEL": Race(
        [ask("INVITE", body=SDP), TRYING, RINGS, *GIVES_UP, ANSWERED, within("ACK", 1, "one"), *ENDS],
        [[LATER, answer(180), hear("CANCEL"), answer(200, to="INVITE", body=SDP), hear("ACK"), *IS_ENDED]],
        ["answered"],
        ["answered"],
    ),
    "CANCEL before the carrier said anything": Race(
        [ask("INVITE", body=SDP), TRYING, *GIVES_UP, hear(180, optional=True), hear(487), ask("ACK")],
        [[LATER, wait(300), answer(180), hear("CANCEL"), answer(200), answer(487, "one", to="INVITE"), hear("ACK")]],
        ["cancelled"],
        ["cancelled"],
    ),
    "the 487 is lost on both sides": Race(
        [ask("INVITE", body=SDP), TRYING, RINGS, *GIVES_UP, hear(487), hear(487), ask("ACK"), wait(700)],
        [
            [
                LATER, answer(180), hear("CANCEL"), answer(200), answer(487, to="INVITE"), hear("ACK"),
                answer(487, "", to="INVITE"), hear("ACK"),
            ]
        ],
        ["cancelled"],
        ["cancelled"],
        is_scripted=True,
    ),
    "a 200 that is lost, and an INVITE that is repeated": Race(
        [
            ask("INVITE", body=SDP), TRYING, ask("INVITE", body=SDP), TRYING, RINGS, ANSWERED, hear(200),
            within("ACK", 1, "one"), *ENDS,
        ],
        [
            [
                LATER, wait(300), answer(180), answer(200, to="INVITE", body=SDP), wait(500),
                answer(200, to="INVITE", body=SDP), hear("ACK"), *IS_ENDED,
            ]
        ],
        ["answered"],
        ["answered"],
        is_scripted=True,
    ),
    "the first carrier answers when the second rings": Race(
        [ask("INVITE", body=SDP), TRYING, hear(180), ANSWERED, within("ACK", 1, "one"), *ENDS],
        [
            [LATER, wait(1500), answer(200, to="INVITE", body=SDP), hear("ACK"), *IS_ENDED],
            [
                LATER, answer(180, "two"), hear("CANCEL"), answer(200, "two"), answer(487, "two", to="INVITE"),
                hear("ACK"),
            ],
        ],
        ["answered"],
        ["answered", "cancelled"],
    ),
    "a carrier answers after the caller was refused": Race(
        [ask("INVITE", body=SDP), TRYING, hear(408), ask("ACK"), ANSWERED, within("ACK", 1, "one"), *ENDS],
        [[LATER, wait(1500), answer(200, to="INVITE", body=SDP), hear("ACK"), *IS_ENDED]],
        ["failed", "answered"],
        ["answered"],
        is_located=False,
    ),
    "a carrier says 100 and nothing more": Race(
        [ask("INVITE", body=SDP), TRYING, hear(180), ANSWERED, within("ACK", 1, "one"), *ENDS],
        [
            [LATER, answer(100, ""), hear("CANCEL"), answer(200), answer(487, "two", to="INVITE"), hear("ACK")],
            [LATER, answer(180), wait(500), answer(200, to="INVITE", body=SDP), hear("ACK"), *IS_ENDED],
        ],
        ["answered"],
        ["timeout", "answered"],
    ),
    "a carrier that is slow rings before the second does": Race(
        [ask("INVITE", body=SDP), TRYING, RINGS, ANSWERED, within("ACK", 1, "one"), *ENDS],
        [
            [
                LATER, answer(100, ""), wait(7000), answer(180), wait(500), answer(200, to="INVITE", body=SDP),
                hear("ACK"), *IS_ENDED,
            ],
            [LATER, answer(100, ""), hear("CANCEL"), answer(200), answer(487, "two", to="INVITE"), hear("ACK")],
        ],
        ["answered"],
        ["answered", "cancelled"],
    ),
    "two phones of one carrier answer": Race(
        [
            ask("INVITE", body=SDP), TRYING, ANSWERED, within("ACK", 1, "one"), hear(200, routes=True),
            within("ACK", 1, "two"), within("BYE", 2, "two"), hear(200), *ENDS,
        ],
        [
            [
                LATER, answer(200, to="INVITE", body=SDP), hear("ACK"), wait(200),
                send(
                    "SIP/2.0 200 Whatever\n[$own]\n[$pbx]\n[$route]\n[last_From:]\n"
                    "To: <sip:911@nowhere.example>;tag=two\n[last_Call-ID:]\nCSeq: 1 INVITE\n"
                    f"Contact: <sip:psap@{HERE}>",
                    SDP,
                ),
                hear("ACK"), *IS_ENDED, *IS_ENDED,
            ]
        ],
        ["answered"],
        ["answered"],
    ),
    "a re-INVITE meets another": Race(
        [
            ask("INVITE", body=SDP), TRYING, ANSWERED, within("ACK", 1, "one"), within("INVITE", 2, "one", body=SDP),
            TRYING, hear(491), within("ACK", 2, "one", branch="INVITE"), within("INVITE", 3, "one", body=SDP), TRYING,
            hear(200), within("ACK", 3, "one"), *ENDS,
        ],
        [
            [
                hear("INVITE"), answer(200, body=SDP), hear("ACK"), hear("INVITE"), answer(491, ""), hear("ACK"),
                hear("INVITE"), answer(200, "", body=SDP), hear("ACK"), *IS_ENDED,
            ]
        ],
        ["answered"],
        ["answered"],
    ),
    "reliable early media, UPDATE, and the answer in the ACK": Race(
        [
            ask("INVITE", more="\nSupported: 100rel"), TRYING, hear(183, routes=True),
            within("PRACK", 2, "one", more="\nRAck: 7 1 INVITE"), hear(200), within("UPDATE", 3, "one", body=SDP),
            hear(200), ANSWERED, within("ACK", 1, "one", body=SDP), *ENDS,
        ],
        [
            [
                LATER, answer(183, body=SDP, more=RELIABLE), hear("PRACK"), answer(200, ""), hear("UPDATE"),
                answer(200, "", body=SDP), answer(200, "", to="INVITE", body=SDP), hear("ACK"), *IS_ENDED,
            ]
        ],
        ["answered"],
        ["answered"],
    ),
}  # fmt: skip


OVER = {f"{name}, {transport}": (race, transport) for transport in ("udp", "tcp") for name, race in RACES.items()
        if transport == "udp" or not race.is_scripted}  # fmt: skip


def scenario(folder: Path, name: str, steps: list[str]) -> Path:
    file = folder / f"{name}.xml"
    file.write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="{name}">\n'
        + "\n".join(steps)
        + "\n</scenario>\n"
    )
    return file


def account(number: int, trunks: list[dict[str, Any]]) -> dict[str, Any]:
    """An account of its own for each race, so that nobody's trunks or PBXs meet."""
    made = peers.one_account(*trunks, pbx_ip=f"127.0.1.{number + 1}")
    made["account_id"] = f"account_race{number}"
    for kind in ("locations", "lines", "pbxs"):
        for row in made[kind]:
            row["id"] = f"{row['id']}_{number}"
    made["default_location_id"] = made["locations"][0]["id"]
    made["lines"][0] |= {"location_id": made["default_location_id"], "pbx_id": made["pbxs"][0]["id"]}
    made["pbxs"][0]["default_location_id"] = made["default_location_id"]
    return made


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Result"]]:
    """All races at once; what each side said about it and what was recorded."""
    folder = tmp_path_factory.mktemp("races")
    keys = crypto.create(folder / "keys.toml")
    accounts, running = [], []
    for number, (name, (race, transport)) in enumerate(OVER.items()):
        trunks, by = [], ["-t", f"{transport[0]}1"]
        for index, steps in enumerate(race.carriers):
            ip = f"127.0.{2 + index}.{number + 1}"
            port = ports.free_port(ip)
            label = f"carrier_{number}_{index}"
            words = [*race.words, *by]
            peer = peers.sipp(folder, label, *words, scenario=scenario(folder, label, steps), ip=ip, port=port)
            running.append((name, label, peer))
            peer.ready(lambda ip=ip, port=port, transport=transport: peers.is_bound(ip, port, transport))
            called, priority = f"trunk_{number}_{index}", 10 * index + 10
            trunk = peers.trunk(ip, port, name=called, priority=priority, transport=transport)
            trunks.append(trunk if race.is_located else trunk | {"location_mode": "none"})
        accounts.append(account(number, trunks))
    try:
        with peers.edge(folder, keys, folder / "keys.toml", *accounts, first_response_s=1.2, ping_s=0.0) as edge:
            for number, (name, (race, transport)) in enumerate(OVER.items()):
                ip, label = f"127.0.1.{number + 1}", f"pbx_{number}"
                place = edge.tcp if transport == "tcp" else edge.udp
                words = [*race.words, "-t", f"{transport[0]}1", "{}:{}".format(*place)]
                steps = scenario(folder, label, race.pbx)
                peer = peers.sipp(folder, label, *words, scenario=steps, ip=ip, port=ports.free_port(ip))
                running.append((name, label, peer))
            faults = {name: [] for name in OVER}
            for name, label, peer in running:
                peers.until(lambda peer=peer: peer.process.poll() is not None, label, WITHIN_S + 5.0)
                if peer.process.returncode:
                    errors = folder / f"{label}.errors"
                    said = errors.read_text(errors="replace")[:3000] if errors.exists() else peer.words()
                    faults[name].append(f"{label}: {said}")
        entries, _ = JournalReader(folder / "journal", keys).read_from(limit=10_000)
        yield {name: Result.of(entries, number, faults[name]) for number, name in enumerate(OVER)}
    finally:
        for _, _, peer in running:
            peer.stop()


@dataclass(frozen=True)
class Result:
    faults: list[str]
    outcomes: list[str]
    attempts: list[str]

    @classmethod
    def of(cls, entries: list[dict[str, Any]], number: int, faults: list[str]) -> "Result":
        calls = {e["id"] for e in entries if e["type"] == "call" and e["account_id"] == f"account_race{number}"}
        own = [entry for entry in entries if entry.get("call") in calls]
        attempts = {entry["number"]: entry["outcome"] for entry in own if entry["type"] == "attempt"}
        return cls(
            faults,
            [entry["outcome"] for entry in own if entry["type"] == "outcome"],
            [attempts[number] for number in sorted(attempts)],
        )


@pytest.mark.parametrize("name", OVER)
def test_both_sides_see_what_rfc_3261_promises(results: dict[str, Result], name: str) -> None:
    """E-18: every message in its order on both sides, judged by SIPp; the record says what became of the call."""
    result = results[name]
    assert result.faults == []
    assert list(dict.fromkeys(result.outcomes)) == OVER[name][0].outcomes
    assert result.attempts == OVER[name][0].attempts
