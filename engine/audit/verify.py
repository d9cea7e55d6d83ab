"""Verification of an exported audit chain, off line: `python3 verify.py EXPORT.jsonl [--key HEX] [--checkpoint HASH]`.

This file needs Python 3.11, its standard library and `cryptography`; it imports nothing of Callpoint, so that an
auditor can copy it, read it in one sitting and run it far from the machine whose log is judged.

An export is JSON Lines (UTF-8, `\\n`). First the signed checkpoints, then the entries, oldest first:

    {"checkpoint":"callpoint-audit/1\\n<chain>\\n<seq>\\n<hash>\\n<time>\\n","public_key":"<hex>","signature":"<hex>"}
    {"hash":"<hex>","prev_hash":"<hex>","entry":{...}}

`entry` is the exact text that was stored: what is hashed are its bytes as they stand in the file. An entry's hash is
SHA-256 over the 32 bytes of the hash before and those bytes; the first one's `prev_hash` is 64 zeros. A checkpoint is
signed with Ed25519 (RFC 8032) over its text. An edit, a deletion, an insertion, a reorder or a fork breaks the chain at
that line; a cut-off end or a chain that was computed anew passes no longer through its checkpoints.

Trust. A forger who rewrites the whole file can sign it with a key of their own. So compare the key that is shown with
the one you noted before (`callpoint audit key`, `--key`), or give a line from any notification mail (`--checkpoint`).
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = "0" * 64
NOTE_VERSION = "callpoint-audit/1"
_LINE = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev_hash":"([0-9a-f]{64})","entry":(\{.*\})\}', re.DOTALL)
_TAIL = re.compile(rb',"seq":([0-9]+),"status":(?:null|[0-9]+),"verb":"[a-z_]*"\}$')  # the keys are sorted
_NOTE = re.compile(rf"{re.escape(NOTE_VERSION)}\n([a-z0-9_]+)\n([1-9][0-9]*)\n([0-9a-f]{{64}})\n([0-9T:.Z-]+)\n")


class Stored(Protocol):
    """What an export needs of an entry."""

    @property
    def entry(self) -> str: ...
    @property
    def prev_hash(self) -> str: ...
    @property
    def hash(self) -> str: ...


def export_line(row: Stored) -> str:
    """One entry as a line of an export, without the line end: the stored text stands in it byte for byte."""
    return f'{{"hash":"{row.hash}","prev_hash":"{row.prev_hash}","entry":{row.entry}}}'


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found: `fault` is empty when the chain holds."""

    entries: int
    last_seq: int
    last_hash: str
    fault: str
    chain: str = ""
    checkpoints: int = 0  # signed ones that the chain passes through
    keys: tuple[str, ...] = ()  # the public keys that signed them, in hex
    covered: int = 0  # the last entry that a signed checkpoint vouches for; entries behind it could be cut off unseen

    @property
    def holds(self) -> bool:
        return not self.fault


class Broken(Exception):
    """The file is no whole chain; the text says where and why."""


@dataclass(slots=True)
class _Walk:
    """How far the verification has come."""

    key: str = ""
    wanted: str = ""
    count: int = 0
    seq: int = 0
    hash: str = GENESIS
    chain: str = ""
    seen_wanted: bool = False
    notes: dict[int, set[str]] = field(default_factory=dict)  # hashes that the chain must have, by number
    note_chains: set[str] = field(default_factory=set)
    keys: dict[str, None] = field(default_factory=dict)
    passed: int = 0
    covered: int = 0

    def take_note(self, line: bytes) -> None:
        chain, seq, head, key = _checked_note(line)
        if self.key and key != self.key:
            raise Broken(f"a checkpoint is signed with the key {key}, not with the one you named")
        if seq <= self.seq:
            raise Broken(f"the checkpoint of entry {seq} stands behind that entry: checkpoints come first")
        self.keys[key] = None
        self.note_chains.add(chain)
        self.notes.setdefault(seq, set()).add(head)

    def takes_at_once(self, line: bytes) -> bool:
        """Whether the line is the expected entry in the form exports are written in; anything else is judged slowly."""
        seq = self.seq + 1
        text = line[162:-1]
        if (
            not self.count
            or line[73:162] != b'","prev_hash":"%b","entry":' % self.hash.encode()
            or line[:9] != b'{"hash":"'
            or line[-2:] != b"}}"
            or text.find(b',"seq":%d,"status":' % seq, -70) < 0
        ):
            return False
        own = sha256(bytes.fromhex(self.hash) + text).hexdigest()
        if line[9:73] != own.encode() or own == self.wanted or seq in self.notes:
            return False
        self.count, self.seq, self.hash = self.count + 1, seq, own
        return True

    def take_entry(self, line: bytes) -> None:
        text, stated_prev, stated_hash = _parts(line)
        stated_seq = _seq_of(text)
        if stated_seq != self.seq + 1:
            raise Broken(f"expected entry {self.seq + 1}, got {stated_seq}: an entry was removed, added or moved")
        if stated_prev != self.hash:
            raise Broken(f"entry {stated_seq} does not follow the entry before it")
        _check_hash(text, stated_prev, stated_hash, f"entry {stated_seq}")
        if not self.count:
            self.chain = _chain_of(text)
        self.count, self.seq, self.hash = self.count + 1, stated_seq, stated_hash
        if stated_hash == self.wanted:
            self.seen_wanted = True
        if self.notes and stated_seq in self.notes:
            self._pass_checkpoint(stated_seq)

    def _pass_checkpoint(self, seq: int) -> None:
        if self.notes.pop(seq) != {self.hash}:
            raise Broken(f"entry {seq} is not the one that was signed: the log was rewritten, or is another copy of it")
        self.passed, self.covered = self.passed + 1, seq

    def end(self) -> None:
        if self.notes:
            last = max(self.notes)
            raise Broken(f"a signed checkpoint says that there is an entry {last}: the end was cut off")
        if self.note_chains - {self.chain}:
            raise Broken("a signed checkpoint is of another chain")
        if self.wanted and not self.seen_wanted:
            raise Broken("the checkpoint is not in this chain: its end was cut off or rewritten")


def verify(lines: Iterable[str | bytes], *, checkpoint: str = "", key: str = "") -> Verdict:
    """Check a whole chain.

    Args:
        lines: The export's lines: checkpoints, then entries, oldest first.
        checkpoint: A hash known from elsewhere, such as a notification mail; the chain must pass through it.
        key: The public key, in hex, that must have signed every checkpoint.
    """
    walk = _Walk(key=key.strip().lower(), wanted=checkpoint.strip().lower())
    number, fault = 0, ""
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007  # a fault names its line
            data = (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line).rstrip(b"\r\n")
            if not data or walk.takes_at_once(data):
                continue
            if data.startswith(b'{"checkpoint"'):
                walk.take_note(data)
            else:
                walk.take_entry(data)
    except Broken as exc:
        fault = f"line {number}: {exc}"
    else:
        try:
            walk.end()
        except Broken as exc:
            fault = str(exc)
    return Verdict(
        walk.count, walk.seq, walk.hash, fault, walk.chain, walk.passed, tuple(walk.keys), walk.covered
    )  # fmt: skip


def verify_each(lines: Iterable[str | bytes]) -> Verdict:
    """Check every entry in itself: for a filtered export, whose entries do not follow each other."""
    count, seq, last = 0, 0, GENESIS
    for number, line in enumerate(lines, 1):
        data = (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line).rstrip(b"\r\n")
        if not data or data.startswith(b'{"checkpoint"'):
            continue
        try:
            text, stated_prev, stated_hash = _parts(data)
            _check_hash(text, stated_prev, stated_hash, "this entry")
            count, seq, last = count + 1, _seq_of(text), stated_hash
        except Broken as exc:
            return Verdict(count, seq, last, f"line {number}: {exc}")
    return Verdict(count, seq, last, "")


def _parts(line: bytes) -> tuple[bytes, str, str]:
    """The entry's stored bytes, the hash before it and its own. Raises Broken: no line of an export."""
    found = _LINE.fullmatch(line)
    if found is not None:
        return found[3], found[2].decode(), found[1].decode()
    try:  # the API's form: the stored text as a JSON string
        data = json.loads(line)
        text, prev_hash, own = data["entry"], data["prev_hash"], data["hash"]
        if isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", prev_hash) and re.fullmatch("[0-9a-f]{64}", own):
            return text.encode("utf-8", "surrogatepass"), prev_hash, own
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Broken("not an entry of an export")


def _check_hash(text: bytes, prev_hash: str, own: str, what: str) -> None:
    if sha256(bytes.fromhex(prev_hash) + text).hexdigest() != own:
        raise Broken(f"{what} was changed after it was written")


def _seq_of(text: bytes) -> int:
    found = _TAIL.search(text, max(0, len(text) - 120))
    if found is not None:
        return int(found[1])
    try:
        return int(json.loads(text)["seq"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Broken("the entry's text is damaged") from exc


def _chain_of(text: bytes) -> str:
    try:
        return str(json.loads(text)["chain"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _checked_note(line: bytes) -> tuple[str, int, str, str]:
    """(chain, seq, hash, public key) of a checkpoint whose signature holds. Raises Broken."""
    try:
        data = json.loads(line)
        note, key, signature = data["checkpoint"], data["public_key"], data["signature"]
        found = _NOTE.fullmatch(note)
        if found is None or not re.fullmatch("[0-9a-f]{64}", key) or not re.fullmatch("[0-9a-f]{128}", signature):
            raise Broken("not a checkpoint")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), note.encode())
    except InvalidSignature as exc:
        raise Broken("the checkpoint's signature is wrong: it was changed or is forged") from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Broken("not a checkpoint") from exc
    return found[1], int(found[2]), found[3], key


def _hold(entries: int) -> str:
    return "1 entry holds" if entries == 1 else f"{entries} entries hold"


def told(verdict: Verdict) -> list[str]:
    """What to say of a chain that holds, in sentences."""
    lines = [f"{_hold(verdict.entries)}. The last is number {verdict.last_seq}, hash {verdict.last_hash}."]
    if verdict.checkpoints:
        lines.append(
            f"{verdict.checkpoints} signed checkpoints agree, the last at entry {verdict.covered}; signed with the key "
            f"{', '.join(verdict.keys)}. Is that the key you noted?"
        )
    if verdict.covered < verdict.last_seq:
        lines.append(f"No checkpoint in the file vouches for what follows entry {verdict.covered}.")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 the chain holds, 1 it does not, 2 wrong usage."""
    parser = argparse.ArgumentParser(description="Verify an exported Callpoint audit log off line.")
    parser.add_argument("file", help="the export, JSON Lines; - for standard input")
    parser.add_argument("--checkpoint", default="", help="a hash from a notification mail that the chain must hold")
    parser.add_argument("--key", default="", help="the public key, in hex, that must have signed the checkpoints")
    parser.add_argument("--part", action="store_true", help="a filtered export: check each entry in itself")
    asked = parser.parse_args(arguments)
    try:
        with sys.stdin.buffer if asked.file == "-" else open(asked.file, "rb") as lines:  # noqa: PTH123  # stands alone
            verdict = verify_each(lines) if asked.part else verify(lines, checkpoint=asked.checkpoint, key=asked.key)
    except OSError as exc:
        sys.stderr.write(f"{asked.file} cannot be read: {exc.strerror}.\n")
        return 1
    if not verdict.entries and verdict.holds:
        sys.stderr.write(f"{asked.file} holds no entry, so there is nothing to verify. Did the export fail?\n")
        return 1
    if not verdict.holds:
        sys.stderr.write(f"The chain is broken: {verdict.fault}. {verdict.entries} entries before it hold.\n")
        return 1
    said = [f"{_hold(verdict.entries)}, each in itself."] if asked.part else told(verdict)
    sys.stdout.write("\n".join(said) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
