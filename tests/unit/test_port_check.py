"""A port that is taken: who holds it, what to set, before anything runs."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine import port_check
from engine.config import Config, Listen
from engine.port_check import Door, PortsTaken
from tests.ports import free_port


def config_of(folder: Path, **listens: str) -> Config:
    """Every door at a port of the kernel's choice, but for those named as `section_key`."""
    sections: dict[str, dict[str, object]] = {
        "core": {"data_dir": folder}, "provisioning": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"},
        "sip": {"udp": "127.0.0.1:0", "tcp": "127.0.0.1:0"},
    }  # fmt: skip
    for name, listen in listens.items():
        section, _, key = name.partition("_")
        sections[section][key] = listen
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("name", "kind", "purpose", "variable"),
    [
        ("admin_listen", socket.SOCK_STREAM, "the pages and the API", "CALLPOINT_ADMIN__LISTEN"),
        ("provisioning_listen", socket.SOCK_STREAM, "the phones' port", "CALLPOINT_PROVISIONING__LISTEN"),
        ("sip_udp", socket.SOCK_DGRAM, "SIP over UDP", "CALLPOINT_SIP__UDP"),
        ("sip_tcp", socket.SOCK_STREAM, "SIP over TCP", "CALLPOINT_SIP__TCP"),
    ],
)
def test_a_taken_port_is_told_with_its_holder_and_its_key(
    tmp_path: Path, name: str, kind: socket.SocketKind, purpose: str, variable: str
) -> None:
    with tempfile.TemporaryFile() as below, socket.socket(socket.AF_INET, kind) as other:
        below.close()  # its place, ahead of the socket, is taken by the look at the descriptors, and is free again
        other.bind(("127.0.0.1", free_port()))  # it is free again below: nobody else is given it
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        config = config_of(tmp_path, **{name: f"127.0.0.1:{port}"})
        with pytest.raises(PortsTaken) as refused:
            port_check.check(config)
    said = refused.value.detail
    assert f"Port {port}/{'udp' if kind is socket.SOCK_DGRAM else 'tcp'} on 127.0.0.1, {purpose}, is taken by " in said
    assert f"(process {os.getpid()})" in said
    section, _, key = name.partition("_")
    another = said.partition(f"{variable}=127.0.0.1:")[2].partition(".")[0]
    assert f'[{section}] {key} = "127.0.0.1:{another}"' in said
    assert int(another) > port
    assert "this server carries no 911 call" in said
    port_check.check(config)  # free again


def test_all_ports_are_told_at_once_and_an_older_sip_process_keeps_its_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip, socket.socket() as pages:
        sip.bind(("127.0.0.1", 0))
        pages.bind(("127.0.0.1", 0))
        pages.listen()
        sip_at, pages_at = (f"127.0.0.1:{one.getsockname()[1]}" for one in (sip, pages))
        config = config_of(tmp_path, sip_udp=sip_at, admin_listen=pages_at)
        with pytest.raises(PortsTaken) as refused:
            port_check.check(config)
        assert refused.value.detail.count(" is taken by ") == 2
        command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "engine.edge"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as elder:
            assert elder.stdout is not None
            elder.stdout.readline()  # before it runs, its process has no command line yet
            (tmp_path / "edge.owner").write_text(f"name {elder.pid}")
            with pytest.raises(PortsTaken) as refused:
                port_check.check(config)
            elder.communicate()
        assert refused.value.detail.count(" is taken by ") == 1
        assert "the pages and the API, is taken by" in refused.value.detail
        assert "an older SIP process goes on carrying 911 calls" in refused.value.detail


def test_a_holder_whom_this_user_may_not_see_is_looked_up_by_root(tmp_path: Path) -> None:
    """/proc/<pid>/fd of another user's process cannot be read: the sentence says who can."""
    net = tmp_path / "net"
    net.mkdir()
    row = "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4242 1"
    (net / "tcp").write_text(f"  sl  local_address ...\n{row}\n")
    door = Door("admin.listen", "the pages and the API", "tcp", Listen("127.0.0.1", 8081))
    assert port_check.holder_of(door, tmp_path) == ""
    process = tmp_path / "77"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[4242]")
    (process / "cmdline").write_bytes(b"nginx: worker process" + b" x" * 100)
    (process / "fd" / "2").touch()  # as a descriptor that was closed since the folder was read: no link any more
    assert port_check.holder_of(door, tmp_path).startswith("nginx: worker process x x")
    assert port_check.holder_of(door, tmp_path).endswith("… (process 77)")
    (process / "cmdline").write_bytes(b"")
    (process / "comm").write_text("kworker\n")
    assert port_check.holder_of(door, tmp_path) == "kworker (process 77)"
    assert port_check.holder_of(Door("a", "b", "udp", door.listen), tmp_path) == ""


def test_an_address_of_another_machine_is_told_as_such() -> None:
    door = Door("sip.udp", "SIP over UDP", "udp", Listen("192.0.2.77", 5060))
    told = "this machine has no such address. Check it: [sip] udp, or CALLPOINT_SIP__UDP."
    assert told in port_check.fault_of(door)
