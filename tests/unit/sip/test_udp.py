"""The UDP shell on real sockets: what is read at a wake-up, and when datagrams are ranked."""

import asyncio
import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from engine.sip.crowd import CrowdRules
from engine.sip.forward import Hop
from engine.sip.udp import MAX_DATAGRAMS_PER_WAKE_UP, UdpShell, says_unreachable

INVITE = b"INVITE sip:%d@h SIP/2.0\r\nTo: <sip:a@h>\r\n\r\n"


class Ranked:
    """A shell with a crowd's rules, and what came of each datagram."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.ranked: list[bytes] = []
        self.drained = 0
        self.shell = UdpShell(
            receive=lambda data, _hop: self.got.append(data), drained=self._drained, failed=lambda _hop: None,
            crowd=CrowdRules(hears=lambda _hop, _now: True, is_emergency=self._is_emergency, refuse=lambda *_: None,
                             receive=lambda data, _hop: self.got.append(data)),
        )  # fmt: skip

    def _is_emergency(self, uri: bytes, _hop: Hop) -> bool:
        self.ranked.append(uri)
        return uri == b"sip:911@h"

    def _drained(self) -> None:
        self.drained += 1


@pytest.mark.parametrize("sent", [1, MAX_DATAGRAMS_PER_WAKE_UP - 1])
async def test_what_fits_into_one_wake_up_is_dealt_with_in_its_order_and_never_ranked(sent: int) -> None:
    """E-18: ranking costs as much as reading; only a crowd is worth it."""
    at = Ranked()
    address = at.shell.open("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for number in range(sent):
            peer.sendto(INVITE % number, address)
    at.shell.drain()
    assert at.got == [INVITE % number for number in range(sent)]
    assert (at.ranked, at.drained) == ([], 1)
    at.shell.close()


async def test_in_a_crowd_the_911_goes_first_and_nothing_is_left_behind() -> None:
    """E-03: once a whole wake-up did not empty the socket, what waits is ranked, and afterwards no more."""
    at = Ranked()
    address = at.shell.open("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for number in range(2 * MAX_DATAGRAMS_PER_WAKE_UP):
            peer.sendto(INVITE % number, address)
        peer.sendto(INVITE % 911, address)
        at.shell.drain()
        async with asyncio.timeout(30.0):
            while len(at.got) <= 2 * MAX_DATAGRAMS_PER_WAKE_UP:
                await asyncio.sleep(0.01)
        assert at.got[MAX_DATAGRAMS_PER_WAKE_UP] == INVITE % 911
        assert len(at.ranked) == MAX_DATAGRAMS_PER_WAKE_UP + 1
        peer.sendto(INVITE % 5, address)
        at.shell.drain()
    assert at.got[-1] == INVITE % 5
    assert len(at.ranked) == MAX_DATAGRAMS_PER_WAKE_UP + 1
    assert at.shell.shed == 0
    at.shell.close()


def bound_to(port: int) -> socket.socket:
    """Another handle of the UDP socket of this process that has that port."""
    for path in Path("/proc/self/fd").iterdir():
        if not path.is_socket():
            continue
        handle = socket.socket(fileno=os.dup(int(path.name)))
        if (handle.family, handle.type) == (socket.AF_INET, socket.SOCK_DGRAM) and handle.getsockname()[1] == port:
            return handle
        handle.close()
    raise AssertionError(f"nothing of ours has port {port}")


async def test_routers_may_fragment_what_we_send() -> None:
    """E-03: behind a tunnel that takes 1,400 bytes a 911 of 1,450 gets through, though nobody says what was too big."""
    at = Ranked()
    _, port = at.shell.open("127.0.0.1", 0)
    with bound_to(port) as own:
        assert own.getsockopt(socket.IPPROTO_IP, 10) == 0  # IP_MTU_DISCOVER is IP_PMTUDISC_DONT: linux/in.h
    at.shell.close()


@pytest.mark.parametrize(
    ("number", "is_unreachable"), [(errno.ECONNREFUSED, True), (errno.EHOSTUNREACH, True), (errno.EMSGSIZE, False)]
)
def test_a_datagram_too_big_for_the_path_is_no_trunk_that_cannot_be_reached(number: int, is_unreachable: bool) -> None:
    """E-08: the kernel knows the path from then on, and what is sent again half a second later goes in fragments."""
    by_icmp = 2
    error = struct.pack("=IBBBBII", number, by_icmp, 3, 4, 0, 1_400, 0)  # struct sock_extended_err
    assert says_unreachable([(socket.IPPROTO_IP, 11, error)]) is is_unreachable
