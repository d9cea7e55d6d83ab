"""Verification of an exported audit chain, off line: `python3 verify.py EXPORT.jsonl [--key HEX] [--checkpoint HASH]`.

This file needs Python 3.11, its standard library and `cryptography`; it imports nothing of Callpoint, so that an
auditor can copy it, read it in one sitting and run it far from the machine whose log is judged.

An export is JSON Lines (UTF-8, `\\n`). First where the log begins, when its oldest entries were removed by the setting
for how long they are kept; then the signed checkpoints, then the entries, oldest first:

    {"beginning":"callpoint-audit-beginning/1\\n<chain>\\n<seq>\\n<hash>\\n<until>\\n<time>\\n", ... as below}
    {"checkpoint":"callpoint-audit/1\\n<chain>\\n<seq>\\n<hash>\\n<time>\\n","public_key":"<hex>","signature":"<hex>"}
    {"hash":"<hex>","prev_hash":"<hex>","entry":{...}}

`entry` is the exact text that was stored: what is hashed are its bytes as they stand in the file. An entry's hash is
SHA-256 over the 32 bytes of the hash before and those bytes; the first one's `prev_hash` is 64 zeros. Checkpoints and
beginnings are signed with Ed25519 (RFC 8032) over their text. Behind a beginning the first entry is number `seq` + 1
and follows `hash`, and a later entry, `audit_log.prune`, must name the same two: a beginning without that is found.
An edit, a deletion, an insertion, a reorder or a fork breaks the chain at that line; a cut-off end or a chain that was
computed anew passes no longer through its checkpoints.

Trust. A forger who rewrites the whole file can sign it with a key of their own. So compare the key that is shown with
the one you noted before (`callpoint audit key`, `--key`), or give a line from any notification mail (`--checkpoint`).
"""

import argparse
import datetime as dt
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = "0" * 64
NOTE_VERSION = "callpoint-audit/1"
BEGINNING_VERSION = "callpoint-audit-beginning/1"
LEAST_KEPT = dt.timedelta(days=365)  # no setting lets an entry go earlier
UNPROVED = 3  # exit code
READ_AT_ONCE = 1 << 18  # bytes: Python asks for 8 kB of a file at a time, which took a tenth of the verification
SLACK = dt.timedelta(days=1)  # by which the clocks of those who write and of those who sign may differ
PRUNED = b'"event":"audit_log.prune"'
_LINE = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev_hash":"([0-9a-f]{64})","entry":(\{.*\})\}', re.DOTALL)
_TAIL = re.compile(rb',"seq":([0-9]+),"status":(?:null|[0-9]+),"verb":"[a-z_]*"\}$')  # the keys are sorted
_NOTE = re.compile(rf"{re.escape(NOTE_VERSION)}\n([a-z0-9_]+)\n([1-9][0-9]*)\n([0-9a-f]{{64}})\n([0-9T:.Z-]+)\n")
_BEGINNING = re.compile(
    rf"{re.escape(BEGINNING_VERSION)}\n([a-z0-9_]+)\n([1-9][0-9]*)\n([0-9a-f]{{64}})\n([0-9T:.Z-]+)\n([0-9T:.Z-]+)\n"
)


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
    removed: int = 0  # entries before the log's beginning, which is signed; 0: it begins with its first
    removed_until: str = ""  # when the last of them was written
    removed_by: int = 0  # the entry that says so
    seen_before: int = 0  # the signed checkpoint asked for is of this entry, which was removed
    first_seq: int = 0  # of the entries in the file
    first_at: str = ""  # when that one was written, and the last
    last_at: str = ""
    wanted_seq: int = 0  # the entry whose hash was asked for

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
    gone: dict[int, str] = field(default_factory=dict)  # hashes that checkpoints tell of entries that were removed
    note_chains: set[str] = field(default_factory=set)
    keys: dict[str, None] = field(default_factory=dict)
    passed: int = 0
    covered: int = 0
    removed: int = 0
    removed_hash: str = ""
    removed_until: str = ""
    removed_by: int = 0
    seen_before: int = 0
    wanted_seq: int = 0
    first_text: bytes = b""
    last_text: bytes = b""

    def take_beginning(self, line: bytes) -> None:
        if self.count or self.keys or self.removed:
            raise Broken("where the log begins is said once, in the first line")
        chain, seq, last, until, at, key = checked_beginning(line)
        self._refuse_other_key("the log's beginning", key)
        if time_of(at) - time_of(until) < LEAST_KEPT:
            raise Broken(
                f"the log's beginning was signed at {at}, and the last entry it leaves behind is of {until}: no "
                f"setting lets entries go before {LEAST_KEPT.days} days"
            )
        self.keys[key] = None
        self.note_chains.add(chain)
        self.removed, self.removed_hash, self.removed_until = seq, last, until
        self.seq, self.hash, self.covered = seq, last, seq
        if last == self.wanted:
            self.seen_wanted, self.wanted_seq = True, seq

    def _refuse_other_key(self, what: str, key: str) -> None:
        if self.key and key != self.key:
            raise Broken(f"{what} is signed with the key {named(key)}, not with the one you named")

    def take_note(self, line: bytes) -> None:
        chain, seq, head, at, key = checked_note(line)
        self._refuse_other_key("a checkpoint", key)
        if self.count and seq <= self.seq:
            raise Broken(f"the checkpoint of entry {seq} stands behind that entry: checkpoints come first")
        self.keys[key] = None
        self.note_chains.add(chain)
        if seq <= self.removed:
            self._take_note_of_removed(seq, head, at)
            return
        self.notes.setdefault(seq, set()).add(head)

    def _take_note_of_removed(self, seq: int, head: str, at: str) -> None:
        """A checkpoint of what is gone proves nothing here, but must not contradict where the log begins."""
        if seq == self.removed and head != self.removed_hash:
            raise Broken(f"the log begins behind another entry {seq} than the one that was signed before")
        if self.gone.setdefault(seq, head) != head:
            raise Broken(f"two signed checkpoints tell of different entries {seq}: the log was rewritten")
        if seq < self.removed and time_of(at) - time_of(self.removed_until) > SLACK:
            raise Broken(
                f"entry {seq} was the newest at {at}, so entry {self.removed} is younger than {self.removed_until}: "
                "more was removed than the log's beginning says"
            )
        if head == self.wanted and not self.seen_wanted:
            self.seen_before = seq

    def take(self, line: bytes) -> None:
        if line.startswith(b'{"checkpoint"'):
            self.take_note(line)
        elif line.startswith(b'{"beginning"'):
            self.take_beginning(line)
        elif line:
            self.take_entry(line)

    def take_at_once(self, lines: Iterator[tuple[int, str | bytes]]) -> tuple[int, str | bytes] | None:
        """Take the entries that follow in the form exports are written in, and nothing that needs a second look.

        Returns the first other line with its number, which is judged slowly; None: there is none.
        """
        if not self.count:
            return next(lines, None)
        before, taken, other, last_text = self.seq, self.seq, None, self.last_text
        prev, raw = self.hash.encode(), bytes.fromhex(self.hash)
        notes, wanted, has_beginning = self.notes, self.wanted.encode("utf-8", "surrogatepass"), bool(self.removed)
        for number, line in lines:
            if not isinstance(line, bytes) or line[-3:] != b"}}\n":
                other = (number, line)
                break
            text = line[162:-2]
            raw_own = sha256(raw + text).digest()
            own = raw_own.hex().encode()
            if (
                not line.startswith(b'{"hash":"%b","prev_hash":"%b","entry":{' % (own, prev))
                or text.find(b',"seq":%d,"status":' % (taken + 1), -70) < 0
                or taken + 1 in notes
                or own == wanted
                or (has_beginning and PRUNED in text)
            ):
                other = (number, line)
                break
            prev, raw, taken, last_text = own, raw_own, taken + 1, text
        self.count, self.seq, self.hash = self.count + taken - before, taken, prev.decode()
        self.last_text = last_text
        return other

    def take_entry(self, line: bytes) -> None:
        text, stated_prev, stated_hash = _parts(line)
        stated_seq = _seq_of(text)
        if stated_seq != self.seq + 1:
            raise Broken(f"expected entry {self.seq + 1}, got {stated_seq}: an entry was removed, added or moved")
        if stated_prev != self.hash:
            raise Broken(f"entry {stated_seq} does not follow the entry before it")
        _check_hash(text, stated_prev, stated_hash, f"entry {stated_seq}")
        if not self.count:
            self.chain, self.first_text = _chain_of(text), text
        self.last_text = text
        self.count, self.seq, self.hash = self.count + 1, stated_seq, stated_hash
        if self.removed and PRUNED in text and _is_of_beginning(text, self.removed, self.removed_hash):
            self.removed_by = stated_seq
        if stated_hash == self.wanted:
            self.seen_wanted, self.wanted_seq = True, stated_seq
        if self.notes and stated_seq in self.notes:
            self._pass_checkpoint(stated_seq)

    def _pass_checkpoint(self, seq: int) -> None:
        if self.notes.pop(seq) != {self.hash}:
            raise Broken(f"entry {seq} is not the one that was signed: the log was rewritten, or is another copy of it")
        self.passed, self.covered = self.passed + 1, seq

    def end(self) -> None:
        if self.removed and not self.removed_by:
            raise Broken(
                f"the log begins behind entry {self.removed}, and no entry in it says that those before were removed: "
                "its end was cut off, or its beginning was"
            )
        if self.notes:
            last = max(self.notes)
            raise Broken(f"a signed checkpoint says that there is an entry {last}: the end was cut off")
        if self.note_chains - {self.chain}:
            raise Broken("a signed checkpoint is of another chain")
        if self.wanted and not self.seen_wanted and not self.seen_before:
            gone = f", or it is of one of the {self.removed} entries that were removed" if self.removed else ""
            raise Broken(f"the checkpoint is not in this chain: its end was cut off or rewritten{gone}")


def verify(lines: Iterable[str | bytes], *, checkpoint: str = "", key: str = "") -> Verdict:
    """Check a whole chain.

    Args:
        lines: The export's lines: checkpoints, then entries, oldest first.
        checkpoint: A hash known from elsewhere, such as a notification mail; the chain must pass through it.
        key: The public key, in hex, that must have signed every checkpoint.
    """
    walk = _Walk(key=key.strip().lower(), wanted=checkpoint.strip().lower())
    number, fault = 0, ""
    numbered = iter(enumerate(lines, 1))
    following = next(numbered, None)
    try:
        while following is not None:
            number, line = following
            walk.take((line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line).rstrip(b"\r\n"))
            following = walk.take_at_once(numbered)
    except Broken as exc:
        fault = f"line {number}: {exc}"
    else:
        try:
            walk.end()
        except Broken as exc:
            fault = str(exc)
    return Verdict(
        walk.count, walk.seq, walk.hash, fault, walk.chain, walk.passed, tuple(walk.keys), walk.covered, walk.removed,
        walk.removed_until, walk.removed_by, walk.seen_before, walk.seq - walk.count + 1, _at_of(walk.first_text),
        _at_of(walk.last_text), walk.wanted_seq,
    )  # fmt: skip


def verify_each(lines: Iterable[str | bytes]) -> Verdict:
    """Check every entry in itself: for a filtered export, whose entries do not follow each other."""
    count, seq, last, first = 0, 0, GENESIS, 0
    for number, line in enumerate(lines, 1):
        data = (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line).rstrip(b"\r\n")
        if not data or data.startswith((b'{"checkpoint"', b'{"beginning"')):
            continue
        try:
            text, stated_prev, stated_hash = _parts(data)
            _check_hash(text, stated_prev, stated_hash, "this entry")
            count, seq, last = count + 1, _seq_of(text), stated_hash
            first = first or seq
        except Broken as exc:
            return Verdict(count, seq, last, f"line {number}: {exc}")
    return Verdict(count, seq, last, "", first_seq=first)


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


def _at_of(text: bytes) -> str:
    """When that entry was written, as it says; empty for none."""
    try:
        return str(json.loads(text)["at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _chain_of(text: bytes) -> str:
    try:
        return str(json.loads(text)["chain"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _is_of_beginning(text: bytes, seq: int, last: str) -> bool:
    """Whether that entry is the one that says: what stands up to number `seq`, whose hash is `last`, was removed."""
    try:
        body = json.loads(text)
        told = body["details"]
        is_prune = (body["event"], body["outcome"]) == ("audit_log.prune", "success")
        return is_prune and (told["last"], told["last_hash"]) == (seq, last) and told["kept_days"] >= LEAST_KEPT.days
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def time_of(stated: str) -> dt.datetime:
    """An RFC 3339 time as entries and signed texts have it. Raises Broken."""
    try:
        return dt.datetime.fromisoformat(stated).astimezone(dt.UTC)
    except (ValueError, OverflowError) as exc:
        raise Broken(f"{stated} is no time") from exc


def checked_note(line: bytes) -> tuple[str, int, str, str, str]:
    """(chain, seq, hash, time of signing, public key) of a checkpoint whose signature holds. Raises Broken."""
    found, key = _signed(line, "checkpoint", _NOTE)
    return found[1], int(found[2]), found[3], found[4], key


def checked_beginning(line: bytes) -> tuple[str, int, str, str, str, str]:
    """(chain, seq, hash, time of the last entry, time of signing, public key) of a beginning whose signature holds.

    Raises Broken.
    """
    found, key = _signed(line, "beginning", _BEGINNING)
    return found[1], int(found[2]), found[3], found[4], found[5], key


def _signed(line: bytes, what: str, form: re.Pattern[str]) -> tuple[re.Match[str], str]:
    """The signed text under that name, which has that form, and the key that signed it. Raises Broken."""
    try:
        data = json.loads(line)
        note, key, signature = data[what], data["public_key"], data["signature"]
        found = form.fullmatch(note)
        if found is None or not re.fullmatch("[0-9a-f]{64}", key) or not re.fullmatch("[0-9a-f]{128}", signature):
            raise Broken(f"not a {what}")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), note.encode())
    except InvalidSignature as exc:
        raise Broken(f"the {what}'s signature is wrong: it was changed or is forged") from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Broken(f"not a {what}") from exc
    return found, key


def _hold(entries: int) -> str:
    return "1 entry holds" if entries == 1 else f"{entries} entries hold"


def short_name(key: str) -> str:
    """What mails call a public key given in hex: the first 16 digits of its SHA-256."""
    return sha256(bytes.fromhex(key)).hexdigest()[:16]


def named(key: str) -> str:
    """The key as a checkpoint holds it, and its name in mails."""
    return f"{key} (in mails: {short_name(key)})"


def told(verdict: Verdict, *, key: str = "", checkpoint: str = "") -> list[str]:
    """What was checked of a chain that holds, and what was not, in sentences.

    Args:
        key, checkpoint: What was asked for; empty: nothing was.
    """
    lines = [
        f"{_hold(verdict.entries)}: {_from_to(verdict)}.",
        "Each hash was computed anew and each entry follows the one before: none was edited, removed, added or moved.",
        f"The last is number {verdict.last_seq}, hash {verdict.last_hash}.",
    ]
    if verdict.removed:
        lines.append(
            f"The log begins with number {verdict.removed + 1}: the entries before it, the last of "
            f"{verdict.removed_until}, were removed by the setting for how long they are kept. "
            f"Entry {verdict.removed_by} says so, and it is signed."
        )
    if verdict.seen_before:
        lines.append(
            f"The checkpoint you gave was signed here, of entry {verdict.seen_before}. That entry was removed, so this "
            "file cannot prove it; an export made before then can."
        )
    elif checkpoint:
        lines.append(f"The chain passes through the checkpoint you gave: it is entry {verdict.wanted_seq}.")
    return [*lines, *_signatures(verdict, key), *_unchecked(verdict, key, checkpoint)]


def _from_to(verdict: Verdict) -> str:
    first, last = (f"number {verdict.first_seq} of {verdict.first_at}", f"{verdict.last_seq} of {verdict.last_at}")
    reach = first if verdict.entries == 1 else f"{first} to {last}"
    return f"chain {verdict.chain}, {reach}"


def _signatures(verdict: Verdict, key: str) -> list[str]:
    """Which checkpoints agree, and whose key signed them."""
    keys = ", ".join(named(one) for one in verdict.keys)
    whose = f"the key you named, {keys}." if key else f"the key {keys}. Is that the key you noted?"
    if verdict.checkpoints:
        agree = (
            "1 signed checkpoint agrees,"
            if verdict.checkpoints == 1
            else f"{verdict.checkpoints} signed checkpoints agree, the last"
        )
        return [f"{agree} at entry {verdict.covered}; signed with {whose}"]
    if verdict.removed:
        return [f"Its beginning is signed with {whose}"]
    return []


def _unchecked(verdict: Verdict, key: str, checkpoint: str) -> list[str]:
    """What this run leaves open, and what would close it."""
    lines = []
    if verdict.covered < verdict.last_seq:
        lines.append(f"No checkpoint in the file vouches for what follows entry {verdict.covered}.")
    open_ends = []
    if not key:
        open_ends.append(
            "that the key is this installation's: give the one you noted with --key (`callpoint audit key` prints it)"
            if verdict.keys
            else "any signature: the file has no checkpoint, so a chain that was computed anew would hold too. Export "
            "the whole log, without filters"
        )
    if not checkpoint:
        open_ends.append("that it passes through what was mailed: give a line of a notification mail with --checkpoint")
    lines += [f"Not checked: {what}." for what in open_ends]
    return lines


_TABLE = (
    "{file} is no JSON Lines export. If it is a CSV one: that is for people, and no entry in it can be proved. Export "
    "JSON Lines without filters (on the page Audit log, or callpoint audit export --account ID > audit.jsonl) and "
    "verify that file.\n"
)
_FILTERED = (
    "Yet each entry in {file} holds in itself. An export with filters looks like that, and so does a log from which "
    "entries were taken: this file alone cannot tell. With filters, say --part. To prove that nothing is missing, "
    "export without filters and verify that file.\n"
)


def _is_table(first: bytes) -> bool:
    """Whether a file that begins so is something else than JSON Lines, such as CSV."""
    text = first.removeprefix(b"\xef\xbb\xbf").strip()
    return bool(text) and not text.startswith(b"{")


def _is_filtered(path: str, verdict: Verdict) -> bool:
    """Whether numbers are missing in the file, and nothing else is wrong with any entry."""
    if "expected entry" not in verdict.fault:
        return False
    with open(path, "rb") as lines:  # noqa: PTH123  # stands alone
        return verify_each(lines).holds


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 the chain holds, 1 it does not, 2 wrong usage.

    3: it holds, but the checkpoint asked for is of an entry that was removed, which this file cannot prove.
    """
    parser = argparse.ArgumentParser(description="Verify an exported Callpoint audit log off line.")
    parser.add_argument("file", help="the export, JSON Lines; - for standard input")
    parser.add_argument("--checkpoint", default="", help="a hash from a notification mail that the chain must hold")
    parser.add_argument("--key", default="", help="the public key, in hex, that must have signed the checkpoints")
    parser.add_argument("--part", action="store_true", help="a filtered export: check each entry in itself")
    asked = parser.parse_args(arguments)
    try:
        with sys.stdin.buffer if asked.file == "-" else open(asked.file, "rb", READ_AT_ONCE) as file:  # noqa: PTH123
            first = file.readline()
            if _is_table(first):
                sys.stderr.write(_TABLE.format(file=asked.file))
                return 2
            lines = itertools.chain([first], file)
            verdict = verify_each(lines) if asked.part else verify(lines, checkpoint=asked.checkpoint, key=asked.key)
    except OSError as exc:
        sys.stderr.write(f"{asked.file} cannot be read: {exc.strerror}.\n")
        return 1
    if not verdict.entries and verdict.holds:
        sys.stderr.write(f"{asked.file} holds no entry, so there is nothing to verify. Did the export fail?\n")
        return 1
    if not verdict.holds:
        sys.stderr.write(f"The chain is broken: {verdict.fault}. {verdict.entries} entries before it hold.\n")
        if not asked.part and asked.file != "-" and _is_filtered(asked.file, verdict):
            sys.stderr.write(_FILTERED.format(file=asked.file))
        return 1
    said = told(verdict, key=asked.key, checkpoint=asked.checkpoint)
    if asked.part:
        said = [
            f"{_hold(verdict.entries)}, each in itself, among number {verdict.first_seq} to {verdict.last_seq}.",
            "Not checked: whether entries are missing between them, and any signature. A whole export shows that.",
        ]
    sys.stdout.write("\n".join(said) + "\n")
    return UNPROVED if verdict.seen_before else 0


if __name__ == "__main__":
    raise SystemExit(main())
