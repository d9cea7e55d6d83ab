"""The SIP process's start line, and who may be on its addresses."""

import logging
import socket
from pathlib import Path

import pytest

from engine.edge.line import LibraryLines, Lines, Settings, host_port, listed
from engine.edge.owner import Owner
from engine.sip.transports import Listening, both_families
from tests.ports import free_port


def settings(**keys: object) -> Settings:
    return Settings.of({"data_dir": "data", "key_file": "keys.toml", **keys})


def test_where_to_listen_is_read_by_transport_and_family() -> None:
    """E-18: one address of each family; TLS has a port of its own."""
    got = settings(udp="192.0.2.1:5070, [2001:db8::1]:5080", tcp="[::]:5060", tls="0.0.0.0").listening
    assert got.udp == [("192.0.2.1", 5070), ("2001:db8::1", 5080)]
    assert got.tcp == [("::", 5060)]
    assert got.tls == [("0.0.0.0", 5061)]
    assert [(kind, port) for kind, _, port in got.places()] == [
        (socket.SOCK_DGRAM, 5070),
        (socket.SOCK_DGRAM, 5080),
        (socket.SOCK_STREAM, 5060),
        (socket.SOCK_STREAM, 5060),
        (socket.SOCK_STREAM, 5061),
    ]
    assert both_families([("::", 1), ("192.0.2.1", 1)]) == [("::", 1), ("192.0.2.1", 1)]
    assert settings().listening == Listening(udp=[], tcp=[], tls=[], advertised=[])


def test_what_is_advertised_may_be_one_of_each_family_with_or_without_a_port() -> None:
    """E-18: behind NAT."""
    got = settings(advertise="sbc.example, [2001:db8::5]:5070").listening
    assert got.advertised == [("sbc.example", None), ("2001:db8::5", 5070)]


def test_certificate_files_are_paths_or_nothing() -> None:
    files = settings(tls_cert="/etc/c.pem", tls_key="/etc/k.pem", client_ca="").tls_files
    assert (files.certificate, files.key, files.client_ca, files.server_ca) == (
        Path("/etc/c.pem"),
        Path("/etc/k.pem"),
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a:1", ("a", 1)), ("a", ("a", 5060)), ("[::1]:7", ("::1", 7)), ("[::1]", ("::1", 5060)), ("::1", ("::1", 5060))],
)
def test_host_and_port_in_every_form(text: str, expected: tuple[str, int]) -> None:
    assert host_port(text) == expected
    assert listed(f" {text} ,") == [text]


@pytest.mark.enable_socket
@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", socket.SOCK_STREAM), ("::1", socket.SOCK_DGRAM)])
def test_an_address_that_another_program_holds_is_refused(tmp_path: Path, host: str, kind: socket.SocketKind) -> None:
    """E-18: calls would be split between two; the other family at the same port is nobody's business."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as other:
        other.bind((host, free_port(host)))  # which nobody is given at the other family either
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use by another program"):
            Owner(tmp_path).refuse_strangers([(kind, host, port)])
        Owner(tmp_path).refuse_strangers([(kind, "::1" if family is socket.AF_INET else "127.0.0.1", port)])


def test_what_libraries_log_goes_the_way_that_nobody_waits_for():
    """E-03: asyncio writes of its own accord to stderr, which a reader that hangs would let fill up."""
    told: list[tuple[str, dict[str, object]]] = []

    class Told(Lines):
        def log(self, event: str, *, level: str = "info", **values: object) -> None:
            told.append((event, {"level": level} | values))

    lines = Told()
    handler, fault = LibraryLines(lines), ValueError("a fault nobody expected")
    told_of = ("asyncio", logging.ERROR, __file__, 1, "Task exception was never retrieved", (), None)
    handler.handle(logging.LogRecord(*told_of[:-1], exc_info=(ValueError, fault, None)))
    lines.close()
    ((event, values),) = told
    assert event == "Task exception was never retrieved"
    assert (values["level"], values["logger"]) == ("error", "asyncio")
    assert "a fault nobody expected" in str(values["trace"])
