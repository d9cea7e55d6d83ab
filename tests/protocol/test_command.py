"""The `callpoint` command, as a process: exit codes, sentences, and what scripts read."""

import asyncio
import json
import re
import socket
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.node import PASSWORD, Node


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Only its folder and environment: nothing is running."""
    return Node(tmp_path)


async def run(node: Node, *words: str, stdin: str = "", within_s: float = 60, **environment: str) -> Said:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", *words, cwd=node.folder, env=node.environ() | environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), within_s)
    return Said(process.returncode or 0, out.decode(), err.decode())


async def create_account(node: Node, *, password: str = PASSWORD) -> Said:
    words = ("account", "create", "--name", "Acme", "--owner-email", "owner@example.com", "--password-stdin")
    return await run(node, *words, stdin=f"{password}\n")


async def test_a_start_with_a_faulty_file_is_refused_with_every_fault(node: Node) -> None:
    """All faults at once, each with its line and what to write; exit code 1, and no traceback."""
    file = node.folder / "callpoint.toml"
    file.write_text('[sip]\nudp = "everywhere"\n\n[mail]\nprot = 25\n')
    for word in ("run", "check-config"):
        said = await run(node, word, "--config", str(file), CALLPOINT_SIP__UDP="everywhere")
        assert said.code == 1
        assert "line 2: sip.udp" in said.err
        assert "line 5: mail.prot: no such key" in said.err
        assert "Traceback" not in said.err


async def test_wrong_usage_is_exit_code_2(node: Node) -> None:
    assert (await run(node, "account", "create")).code == 2
    assert (await run(node, "no-such-command")).code == 2


async def test_the_id_and_the_key_stand_alone_on_the_last_line(node: Node) -> None:
    created = await create_account(node)
    account_id = created.out.strip().splitlines()[-1]
    assert account_id.startswith("account_")
    said = await run(node, "api-key", "create", "--account", account_id, "--name", "ci", "--scope", "calls:read")
    key = said.out.strip().splitlines()[-1]
    assert key.startswith("cp_")
    assert " " not in key
    stored = b"".join(path.read_bytes() for path in (node.folder / "data").glob("callpoint.db*"))
    assert key.encode() not in stored, "only the key's hash is kept"


async def test_a_weak_password_a_known_address_and_an_unknown_account_are_refused_in_words(node: Node) -> None:
    weak = await create_account(node, password="password1234567")
    assert weak.code == 1
    assert "password" in weak.err.lower()
    assert (await create_account(node)).code == 0
    twice = await create_account(node)
    assert twice.code == 1
    assert "Traceback" not in twice.err
    said = await run(node, "api-key", "create", "--account", "account_none", "--name", "x", "--scope", "*")
    assert said.code == 1
    assert "account_none" in said.err
    unknown = await run(node, "api-key", "create", "--account", "account_none", "--name", "x", "--scope", "everything")
    assert unknown.code == 1


async def test_a_real_emergency_number_needs_a_second_word(node: Node) -> None:
    """`callpoint call 911` must not reach an emergency centre by a slip of the hand."""
    await node.set_up()
    said = await run(node, "call", "911", "--from", "101")
    assert said.code == 1
    assert "933" in said.err
    assert "--yes" in said.err


async def test_doctor_says_what_a_911_call_lacks(node: Node) -> None:
    await node.set_up("Acme")
    said = await run(node, "doctor", "--json")
    assert said.code == 1
    findings = {one["what"]: one for one in json.loads(said.out)}
    for lacking in ("Acme: trunks", "Acme: PBX", "Acme: recipients", "Acme: locations"):
        assert findings[lacking]["level"] == "bad"
        assert findings[lacking]["detail"].endswith((".", "Settings."))
    assert findings["database"]["level"] == "good"
    assert findings["keys"]["level"] == "good"


async def test_a_command_with_other_settings_than_the_node_was_started_with_says_so(tmp_path: Path) -> None:
    """A port nobody answers at is no dead node: whoever types the command may lack the node's own environment."""
    async with Node(tmp_path) as running:
        await running.set_up()
        await running.api("POST", "lines", {"extension": "101", "sip_user": "101", "secret": "s3cret-of-101"})
        pid = running.process.pid if running.process is not None else 0
        other = {"CALLPOINT_SIP__UDP": "127.0.0.1:9", "CALLPOINT_ADMIN__LISTEN": "127.0.0.1:9"}
        said = await run(running, "call", "933", "--from", "101", **other)
        assert said.code == 1
        assert f"Process {pid} serves {tmp_path / 'data'}, yet not where this command looks" in said.out
        said = await run(running, "doctor", "--json", **other)
        node = next(one for one in json.loads(said.out) if one["what"] == "node")
        assert (node["level"], f"Process {pid} " in node["detail"]) == ("bad", True)


async def test_a_start_names_the_mail_server_that_was_set_in_the_pages(tmp_path: Path) -> None:
    """Without one in the file, the one of the pages is in force from the first moment, and stands at the start."""
    running = Node(tmp_path)
    async with running:
        await running.set_up()
        assert "not set: messages wait, nothing is lost (Settings, Mail server)" in "".join(running.output)
        server = {"host": "mail.example.com", "port": 587, "security": "starttls", "sender": "callpoint@example.com"}
        await running.api("PATCH", "mail-settings", server, If_Match='"0"')
    running.output.clear()
    async with running:
        assert re.search(r"Mail +mail\.example\.com:587\n", "".join(running.output))


async def test_migrate_is_done_once_and_says_where_it_stands(node: Node) -> None:
    first = await run(node, "migrate")
    second = await run(node, "migrate")
    assert first.code == second.code == 0
    assert first.out == second.out


async def test_a_tampered_export_fails_verification_with_the_line(node: Node) -> None:
    await node.set_up()
    exported = (await run(node, "audit", "export", "--account", node.account_id)).out
    file = node.folder / "audit.jsonl"
    file.write_text(exported)
    assert (await run(node, "audit", "verify", str(file))).code == 0
    file.write_text(exported.replace("Acme", "Acne"))
    said = await run(node, "audit", "verify", str(file))
    assert said.code == 1
    assert "line 2" in said.err  # the first is the signed checkpoint


async def test_with_one_account_its_log_needs_no_name(node: Node) -> None:
    """S1-02: and with several a wrong guess is not made."""
    await node.set_up()
    assert node.account_id in (await run(node, "audit", "export")).out
    words = ("account", "create", "--name", "Other", "--owner-email", "other@example.com", "--password-stdin")
    await run(node, *words, stdin=f"{PASSWORD}\n")
    said = await run(node, "audit", "export")
    assert (said.code, said.out) == (1, "")
    assert node.account_id in said.err


async def test_the_checkpoint_of_an_export_is_signed_with_the_key_that_the_command_prints(node: Node) -> None:
    """S1-02: whoever noted the key finds a log that was signed anew, and an end that was cut off."""
    await node.set_up()
    printed = await run(node, "audit", "key")
    key = printed.out.strip()
    assert f"Short name (what mails call it): {sha256(bytes.fromhex(key)).hexdigest()[:16]}\n" in printed.err
    file = node.folder / "audit.jsonl"
    file.write_text((await run(node, "audit", "export", "--account", node.account_id)).out)
    assert (await run(node, "audit", "verify", str(file), "--key", key)).code == 0
    said = await run(node, "audit", "verify", str(file), "--key", "00" * 32)
    assert (said.code, "not with the one you named" in said.err) == (1, True)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    said = await run(node, "audit", "verify", str(file), "--key", key)
    assert (said.code, "the end was cut off" in said.err) == (1, True)


async def test_a_call_from_no_line_of_the_account_is_refused_in_words(node: Node) -> None:
    await node.set_up()
    said = await run(node, "call", "933", "--from", "101", "--via", "127.0.0.1:9")
    assert said.code == 1
    assert "No line of Acme" in said.err


async def test_an_export_of_no_account_writes_nothing_and_no_file_verifies_empty(node: Node) -> None:
    """S0-30: a slip of the hand makes no chain, and what holds nothing proves nothing."""
    await node.set_up()
    said = await run(node, "audit", "export", "--account", "nope")
    assert said.code == 1
    assert node.account_id in said.err
    empty = node.folder / "empty.jsonl"
    empty.touch()
    for file, complaint in (
        (empty, "holds no entry"),
        (node.folder, "cannot be read"),
        (node.folder / "absent", "cannot"),
    ):
        said = await run(node, "audit", "verify", str(file))
        assert said.code == 1
        assert complaint in said.err
        assert "Traceback" not in said.err


async def test_the_data_folder_is_its_owners_alone(node: Node) -> None:
    await create_account(node)
    for path in [node.folder / "data", *(node.folder / "data").iterdir()]:
        assert not path.stat().st_mode & 0o077, path.name


async def test_a_snippet_is_printed_or_written_with_the_site_s_own_addresses(node: Node) -> None:
    """E-17: `callpoint snippet`: sentences where something is missing, files where asked for, nothing overwritten."""
    await node.set_up()
    missing = await run(node, "snippet", "asterisk")
    assert missing.code == 1
    assert "needs" in missing.err
    addresses = ("--node", "192.0.2.10:5060", "--node", "192.0.2.11", "--carrier", "198.51.100.1:5070/tcp")
    printed = await run(node, "snippet", "asterisk", *addresses)
    assert printed.code == 0, printed.err
    assert "match=192.0.2.11" in printed.out
    assert "198.51.100.1:5070" in printed.out
    nameless = await run(node, "snippet", "kamailio", *addresses)
    assert nameless.code == 1
    assert "--listen HOST:PORT" in nameless.err
    into = node.folder / "front"
    words = ("snippet", "kamailio", *addresses, "--listen", "192.0.2.1:5060", "--into", str(into))
    assert (await run(node, *words)).code == 0
    assert sorted(path.name for path in into.iterdir()) == ["callpoint.cfg", "callpoint.list"]
    again = await run(node, *words)
    assert again.code == 1
    assert "nothing was written" in again.err
    unknown = await run(node, "snippet", "opensips", *addresses)
    assert unknown.code == 1
    assert "freeswitch" in unknown.err


async def test_a_taken_port_ends_the_start_with_a_code_of_its_own(node: Node) -> None:
    """One sentence and exit code 3 instead of a SIP process that is started again and again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        said = await run(node, "run", CALLPOINT_SIP__UDP=f"127.0.0.1:{other.getsockname()[1]}")
    assert said.code == 3
    assert "SIP over UDP, is taken by " in said.err
    assert "Nothing was started: this server carries no 911 call." in said.err
    assert "edge_died" not in said.err + said.out


async def test_a_start_tells_systemd_when_911_is_carried_and_when_it_stops(tmp_path: Path) -> None:
    """`Type=notify` of the unit that `callpoint snippet systemd` prints."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        node = Node(tmp_path / "node", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        node.folder.mkdir()
        loop = asyncio.get_running_loop()
        async with node:
            assert await asyncio.wait_for(loop.sock_recv(listening, 100), 30) == b"READY=1"
            assert node.udp[1]
        assert await asyncio.wait_for(loop.sock_recv(listening, 100), 30) == b"STOPPING=1"


async def test_an_unknown_snippet_is_told_before_anything_is_asked(node: Node) -> None:
    """The names that there are; no word of accounts and trunks, and nothing is made."""
    said = await run(node, "snippet", "frog")
    assert said.code == 1
    assert "There is no snippet frog. Snippets: 3cx, asterisk" in said.err
    assert not (node.folder / "data").exists()


@pytest.mark.parametrize("words", [("account", "list"), ("migrate",), ("audit", "key"), ("export", "phones")])
async def test_a_folder_or_database_that_cannot_be_used_is_told_in_words(node: Node, words: tuple[str, ...]) -> None:
    """What happened, what it means for calls, what to do; no traceback, exit code 1."""
    (node.folder / "file").write_text("")
    said = await run(node, *words, CALLPOINT_CORE__DATA_DIR=str(node.folder / "file" / "data"))
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "file/data" in said.err
    if words == ("audit", "key"):
        return
    url = "postgresql+asyncpg://callpoint:hush@127.0.0.1:1/callpoint"
    said = await run(node, *words, CALLPOINT_CORE__DATABASE_URL=url)
    assert said.code == 1
    assert said.err.startswith("The database does not answer (")
    assert "911 calls of a running node go on from its location table." in said.err
    assert "hush" not in said.err


async def test_the_demo_tells_its_story_and_ends_where_nobody_watches(node: Node) -> None:
    """No terminal: nobody to press Ctrl-C. All that it promises happens, in 80 columns, in words of the pages."""
    said = await run(node, "demo", within_s=150, COLUMNS="80")
    assert said.code == 0, said.out + said.err
    for told in ("8 phones booted", "Carrier B: 200", "phone's network", "The old URL answers 404, the new one 200."):
        assert told in said.out
    assert "provisioning_token.rotate " in said.out, "the audit log's events are not cut off"
    assert "subnet" not in said.out
    rungs = [float(found) for found in re.findall(r"^ *(\d+\.\d) .*(?:──▶|◀──|✗)", said.out, re.MULTILINE)]
    second = rungs.index(0.0, 1)
    assert rungs[:second] == sorted(rungs[:second]), "each step has its time, in its order"
    assert rungs[second:] == sorted(rungs[second:])
    assert len(re.findall("INVITE with", said.out)) == 3, "two carriers for the 933, one for the 911"
    assert max(len(line) for line in said.out.splitlines()) <= 80
    assert not (node.folder / "data").exists()
