"""An authoritative DNS server on loopback, for names that exist nowhere else."""

import asyncio
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `zone`, lines as in a zone file: "trunk.example. 60 IN A 127.0.0.3". Names it does not hold do not
    exist; `fails` makes it answer SERVFAIL, `is_silent` nothing at all.
    """

    def __init__(self, *lines: str) -> None:
        self.zone: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str]] = []
        self.fails = self.is_silent = False
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """Put records into the zone in place of those of the same name and kind."""
        fresh: dict[tuple[str, str], list[str]] = {}
        for line in lines:
            name, ttl, _, kind, *rest = line.split()
            fresh.setdefault((name.lower(), kind), [ttl]).append(" ".join(rest))
        for (name, kind), (ttl, *records) in fresh.items():
            self.zone[name, kind] = dns.rrset.from_text(name, int(ttl), "IN", kind, *records)

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return int(self.transport.get_extra_info("sockname")[1])

    def close(self) -> None:
        self.transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.is_silent:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        found = self.zone.get((name, kind))
        if self.fails:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found is not None:
            answer.answer.append(found)
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)
