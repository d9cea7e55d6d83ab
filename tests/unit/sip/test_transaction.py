"""The machines held against the RFC's figures, pair by pair, and the transactions that run on them."""

import itertools

import pytest

from engine.sip import transaction as t
from engine.sip.forward import Hop
from engine.sip.timers import T1, T2, T4
from engine.sip.transaction import (
    Act,
    ClientTransaction,
    Input,
    Machine,
    ServerTransaction,
    State,
    Transactions,
    client_key,
    server_key,
    with_method,
)
from tests.siptest import CARRIER, PBX, read_request, request

# RFC 3261 Figures 5 to 8 with RFC 6026 §7, one arrow a line: state, input, next state, act.
FIGURES = {
    "INVITE_CLIENT": """
        CALLING    REPEAT          CALLING    RESEND
        CALLING    END             TERMINATED TIME_OUT
        CALLING    TRANSPORT_ERROR TERMINATED FAIL
        CALLING    PROVISIONAL     PROCEEDING PASS
        CALLING    SUCCESS         ACCEPTED   PASS
        CALLING    FAILURE         COMPLETED  PASS_AND_ACK
        PROCEEDING PROVISIONAL     PROCEEDING PASS
        PROCEEDING SUCCESS         ACCEPTED   PASS
        PROCEEDING FAILURE         COMPLETED  PASS_AND_ACK
        COMPLETED  FAILURE         COMPLETED  ACK_AGAIN
        COMPLETED  END             TERMINATED FINISH
        ACCEPTED   SUCCESS         ACCEPTED   PASS
        ACCEPTED   END             TERMINATED FINISH""",
    "NON_INVITE_CLIENT": """
        TRYING     REPEAT          TRYING     RESEND
        TRYING     END             TERMINATED TIME_OUT
        TRYING     TRANSPORT_ERROR TERMINATED FAIL
        TRYING     PROVISIONAL     PROCEEDING PASS
        TRYING     SUCCESS         COMPLETED  PASS
        TRYING     FAILURE         COMPLETED  PASS
        PROCEEDING REPEAT          PROCEEDING RESEND
        PROCEEDING END             TERMINATED TIME_OUT
        PROCEEDING TRANSPORT_ERROR TERMINATED FAIL
        PROCEEDING PROVISIONAL     PROCEEDING PASS
        PROCEEDING SUCCESS         COMPLETED  PASS
        PROCEEDING FAILURE         COMPLETED  PASS
        COMPLETED  END             TERMINATED FINISH""",
    "INVITE_SERVER": """
        PROCEEDING REQUEST         PROCEEDING RESEND
        PROCEEDING PROVISIONAL     PROCEEDING SEND
        PROCEEDING SUCCESS         ACCEPTED   SEND
        PROCEEDING FAILURE         COMPLETED  SEND
        ACCEPTED   REQUEST         ACCEPTED   ABSORB
        ACCEPTED   ACK             ACCEPTED   PASS
        ACCEPTED   SUCCESS         ACCEPTED   SEND
        ACCEPTED   END             TERMINATED FINISH
        COMPLETED  REQUEST         COMPLETED  RESEND
        COMPLETED  REPEAT          COMPLETED  RESEND
        COMPLETED  ACK             CONFIRMED  ABSORB
        COMPLETED  END             TERMINATED FINISH
        CONFIRMED  ACK             CONFIRMED  ABSORB
        CONFIRMED  END             TERMINATED FINISH""",
    "NON_INVITE_SERVER": """
        TRYING     REQUEST         TRYING     ABSORB
        TRYING     PROVISIONAL     PROCEEDING SEND
        TRYING     SUCCESS         COMPLETED  SEND
        TRYING     FAILURE         COMPLETED  SEND
        PROCEEDING REQUEST         PROCEEDING RESEND
        PROCEEDING PROVISIONAL     PROCEEDING SEND
        PROCEEDING SUCCESS         COMPLETED  SEND
        PROCEEDING FAILURE         COMPLETED  SEND
        COMPLETED  REQUEST         COMPLETED  RESEND
        COMPLETED  END             TERMINATED FINISH""",
}
UDP, TCP = Hop("udp", "192.0.2.30", 5060), Hop("tcp", "192.0.2.30", 5060)


def arrows(name: str) -> dict[tuple[State, Input], tuple[State, Act]]:
    rows = (line.split() for line in FIGURES[name].strip().splitlines())
    return {(State[a], Input[b]): (State[c], Act[d]) for a, b, c, d in rows}


@pytest.mark.parametrize(
    ("name", "state", "given"),
    list(itertools.product(FIGURES, State, Input)),
    ids=lambda value: getattr(value, "name", value),
)
def test_every_pair_of_every_machine_is_as_in_the_figure(name: str, state: State, given: Input) -> None:
    """E-18: present where the RFC draws an arrow, absent where it draws none."""
    assert getattr(t, name).get((state, given)) == arrows(name).get((state, given))


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.transactions = Transactions(lambda data, _: self.sent.append(data))

    def client(self, method: bytes, hop: Hop) -> ClientTransaction:
        made = ClientTransaction(client_key(b"z9hG4bKx", method), b"REQUEST", hop, None)
        self.transactions.open_client(made, 0.0)
        return made

    def server(self, method: str, hop: Hop) -> ServerTransaction:
        got = read_request(request(method))
        made = ServerTransaction(server_key(got), got, PBX, hop, b"")
        self.transactions.open_server(made)
        return made

    def run(self, until: float) -> list[float]:
        """Times at which something was sent again."""
        times = []
        while (due := self.transactions.next_timer()) is not None and due <= until:
            before = len(self.sent)
            self.transactions.handle_timer(due)
            times += [due] * (len(self.sent) - before)
        return times


def test_an_invite_is_repeated_with_doubling_intervals_until_timer_b() -> None:
    """E-18: timer A."""
    wire = Wire()
    client = wire.client(b"INVITE", UDP)
    assert wire.run(100) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert client.state is State.TERMINATED
    assert wire.transactions.clients == {}


def test_another_request_is_repeated_at_most_every_t2() -> None:
    """E-18: timer E."""
    wire = Wire()
    wire.client(b"OPTIONS", UDP)
    assert wire.run(100) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert wire.transactions.next_timer() is None


@pytest.mark.parametrize("method", [b"INVITE", b"OPTIONS"])
def test_nothing_is_repeated_on_a_stream(method: bytes) -> None:
    """E-18: timers A and E are for unreliable transports; B and F run."""
    wire = Wire()
    client = wire.client(method, TCP)
    assert wire.run(31.9) == []
    assert client.state in (State.CALLING, State.TRYING)
    assert [each.state for each in wire.transactions.handle_timer(32.0)] == [State.TERMINATED]


@pytest.mark.parametrize(
    ("method", "hop", "status", "lingers_s"),
    [
        (b"INVITE", UDP, 486, 32.0),  # D
        (b"INVITE", TCP, 486, 0.0),
        (b"INVITE", UDP, 200, 32.0),  # M
        (b"INVITE", TCP, 200, 32.0),
        (b"BYE", UDP, 200, T4),  # K
        (b"BYE", TCP, 200, 0.0),
    ],
)
def test_a_finished_client_transaction_lingers(method: bytes, hop: Hop, status: int, lingers_s: float) -> None:
    """E-18: timers D, M and K."""
    wire = Wire()
    client = wire.client(method, hop)
    wire.transactions.receive_response(client, status, 0.0)
    if not lingers_s:
        assert wire.transactions.clients == {}
        return
    assert wire.run(lingers_s - 0.01) == []
    assert client.key in wire.transactions.clients
    wire.run(lingers_s)
    assert wire.transactions.clients == {}
    assert wire.transactions.next_timer() is None


@pytest.mark.parametrize(
    ("method", "hop", "status", "lingers_s"),
    [
        ("INVITE", UDP, 200, 32.0),  # L
        ("INVITE", TCP, 200, 32.0),
        ("INVITE", UDP, 486, 32.0),  # H
        ("INVITE", TCP, 486, 32.0),
        ("BYE", UDP, 200, 32.0),  # J
        ("BYE", TCP, 200, 0.0),
    ],
)
def test_a_finished_server_transaction_lingers(method: str, hop: Hop, status: int, lingers_s: float) -> None:
    """E-18: timers L, H and J."""
    wire = Wire()
    server = wire.server(method, hop)
    assert wire.transactions.respond(server, status, b"FINAL", 0.0)
    if not lingers_s:
        assert wire.transactions.servers == {}
        return
    wire.run(lingers_s - 0.01)
    assert server.key in wire.transactions.servers
    wire.run(lingers_s)
    assert wire.transactions.servers == {}


def test_a_refusal_is_repeated_by_timer_g_and_not_on_a_stream() -> None:
    """E-18: T1 doubling to T2; the ACK stops it, timer I holds the transaction for T4."""
    wire = Wire()
    server = wire.server("INVITE", UDP)
    wire.transactions.respond(server, 486, b"486", 0.0)
    assert wire.run(12.0) == [T1, 1.5, 3.5, 7.5, 11.5]
    assert wire.transactions.receive_again(server, is_ack=True, now=12.0) is Act.ABSORB
    assert server.last == b""
    assert wire.run(12.0 + T4 - 0.1) == []
    assert wire.run(12.0 + T4) == []
    assert wire.transactions.servers == {}
    stream = Wire()
    stream.transactions.respond(stream.server("INVITE", TCP), 486, b"486", 0.0)
    assert stream.run(31.0) == []


def test_after_an_ack_on_a_stream_the_transaction_is_gone() -> None:
    """E-18: timer I is 0 there."""
    wire = Wire()
    server = wire.server("INVITE", TCP)
    wire.transactions.respond(server, 486, b"486", 0.0)
    wire.transactions.receive_again(server, is_ack=True, now=0.1)
    assert wire.transactions.servers == {}


def test_a_second_final_response_is_not_sent() -> None:
    """E-18: an absent pair is ignored."""
    wire = Wire()
    server = wire.server("BYE", UDP)
    assert wire.transactions.respond(server, 200, b"200", 0.0)
    assert not wire.transactions.respond(server, 500, b"500", 0.0)
    assert wire.sent == [b"200"]


def test_a_response_after_the_end_is_ignored() -> None:
    """E-18: a 180 behind the 200, a 200 to an OPTIONS twice."""
    wire = Wire()
    client = wire.client(b"INVITE", UDP)
    wire.transactions.receive_response(client, 200, 0.0)
    assert wire.transactions.receive_response(client, 180, 0.0) is None
    assert wire.transactions.receive_response(client, 486, 0.0) is None
    options = wire.client(b"OPTIONS", UDP)
    assert wire.transactions.receive_response(options, 200, 0.0) is Act.PASS
    assert wire.transactions.receive_response(options, 200, 0.0) is None


def test_a_finished_transaction_keeps_no_bytes_it_does_not_need() -> None:
    """E-18: there are a hundred thousand of them at some thousand calls a second."""
    wire = Wire()
    invite, bye = wire.server("INVITE", UDP), wire.server("BYE", UDP)
    for server in (invite, bye):
        wire.transactions.respond(server, 200, b"200", 0.0)
    assert (invite.request, invite.last, invite.repeat) == (None, b"", None)
    assert (bye.request, bye.last, bye.repeat) == (None, b"200", None)


def test_an_ack_finds_its_invite_and_a_cancel_does_not() -> None:
    """E-18: §17.2.3."""
    invite = server_key(read_request(request()))
    assert server_key(read_request(request("ACK", to_tag="x"))) == invite
    assert server_key(read_request(request("CANCEL"))) == with_method(invite, b"CANCEL")
    assert server_key(read_request(request(source=Hop("udp", "192.0.2.20", 5070)))) != invite


def test_a_branch_that_is_used_again_for_another_call_is_another_transaction() -> None:
    """E-18: of two calls alike in all but their Call-ID neither finds the other, nor the other's ACK and CANCEL."""
    first, second = (
        {server_key(read_request(request(method, call_id=name))) for method in ("INVITE", "ACK", "CANCEL", "MESSAGE")}
        for name in ("first@pbx", "second@pbx")
    )
    assert (len(first), len(second), first & second) == (3, 3, set())


@pytest.mark.parametrize("branch", ["1", "z9hG4bK"])
def test_without_a_cookie_the_request_itself_is_the_key(branch: str) -> None:
    """E-18: RFC 2543 peers; the ACK has a To tag its INVITE had not."""
    invite = server_key(read_request(request(branch=branch)))
    assert server_key(read_request(request("ACK", branch=branch, to_tag="x", body=b""))) == invite
    for other in (
        request(branch=branch, cseq=2),
        request(branch=branch, from_tag="bob"),
        request(branch=branch, call_id="other"),
        request(branch=branch, uri="sip:933@192.0.2.10"),
    ):
        assert server_key(read_request(other)) != invite


def test_a_failed_transport_ends_what_was_not_heard_of() -> None:
    """E-08: and nothing else."""
    wire = Wire()
    silent, heard = wire.client(b"INVITE", UDP), wire.client(b"MESSAGE", UDP)
    wire.transactions.receive_response(heard, 100, 0.0)
    assert wire.transactions.waiting_on(UDP) == [silent]
    assert wire.transactions.waiting_on(PBX) == []
    assert wire.transactions.fail(silent, 0.0)
    assert not wire.transactions.fail(silent, 0.0)
    assert list(wire.transactions.clients.values()) == [heard]


def test_a_provisional_slows_a_stream_and_a_datagram_alike() -> None:
    """E-18: timer E goes on and starts again with T2; on a stream there is none to slow."""
    for hop, expected in ((UDP, [T1, T1 + T2, T1 + 2 * T2]), (TCP, [])):
        wire = Wire()
        client = wire.client(b"MESSAGE", hop)
        wire.transactions.receive_response(client, 100, 0.0)
        assert wire.run(9.0) == expected


def test_machines_are_what_they_are() -> None:
    """E-18: four of them."""
    assert sum(isinstance(value, Machine) for value in vars(t).values()) == 4
    assert CARRIER != PBX
