"""P-20: the real DHCP servers read what we write for them."""

import asyncio
import shutil

import pytest

from engine.provisioning import dhcp, vendors

URL = "https://phones.example.com:8443/p/" + "T" * 43 + "/"
KEA = """{ "Dhcp4": {
  "interfaces-config": { "interfaces": [] },
  "lease-database": { "type": "memfile", "persist": false },
  <?include "%s"?>
} }
"""


async def said_by(*command):
    """The exit code and all it said."""
    program = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(program.communicate(), 30)
    return program.returncode, out.decode(errors="replace")


def needs(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH; `python3 run.py test` brings it")


def written(folder, server):
    ((name, text),) = dhcp.snippet(server, URL, vendors.known().profiles.values(), tftp="192.0.2.9").items()
    (folder / name).write_text(text)
    return folder / name


async def test_dnsmasq_reads_its_snippet(tmp_path):
    needs("dnsmasq")
    file = written(tmp_path, "dnsmasq")
    code, said = await said_by("dnsmasq", "--test", "-C", str(file))
    assert (code, "syntax check OK" in said) == (0, True), said
    file.write_text(file.read_text() + "dhcp-mac=set:x,nonsense:zz\ndhcp-nonsense=1\n")
    assert (await said_by("dnsmasq", "--test", "-C", str(file)))[0] != 0  # the check is one


async def test_kea_reads_its_snippet(tmp_path):
    needs("kea-dhcp4")
    snippet = written(tmp_path, "kea")
    whole = tmp_path / "kea-dhcp4.conf"
    whole.write_text(KEA % snippet)
    code, said = await said_by("kea-dhcp4", "-t", str(whole))
    assert (code, "ERROR" in said) == (0, False), said
    snippet.write_text(snippet.read_text().replace("substring(", "substrung(", 1))
    assert (await said_by("kea-dhcp4", "-t", str(whole)))[0] != 0


async def test_isc_dhcpd_reads_its_snippet(tmp_path):
    needs("dhcpd")
    snippet = written(tmp_path, "isc")
    whole = tmp_path / "dhcpd.conf"
    whole.write_text(
        f'include "{snippet}";\nsubnet 192.0.2.0 netmask 255.255.255.0 {{ range 192.0.2.20 192.0.2.30; }}\n'
    )
    (tmp_path / "leases").touch()
    command = ("dhcpd", "-t", "-cf", str(whole), "-lf", str(tmp_path / "leases"))
    code, said = await said_by(*command)
    assert (code, "error" in said.lower()) == (0, False), said
    snippet.write_text(snippet.read_text().replace("match if", "match when", 1))
    assert (await said_by(*command))[0] != 0
