"""Verification of an exported chain, off line: nothing but the file is needed.

An export is JSON Lines, oldest entry first: `{"entry": "<stored text>", "prev_hash": "<hex>", "hash": "<hex>"}`.
An edit, a deletion, an insertion, a reorder or a fork breaks the chain at that line. A cut-off end leaves a chain that
is right but shorter: compare its last hash with a checkpoint printed in any notification mail.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.audit.record import GENESIS, chain_hash
from engine.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found: `fault` is empty when the chain holds."""

    entries: int
    last_seq: int
    last_hash: str
    fault: str

    @property
    def holds(self) -> bool:
        return not self.fault


def export_line(row: AuditEntry) -> str:
    """One entry as a line of an export, without the line end."""
    return json.dumps({"entry": row.entry, "prev_hash": row.prev_hash, "hash": row.hash}, ensure_ascii=False)


def verify(lines: Iterable[str], *, checkpoint: str = "") -> Verdict:
    """Check a whole chain.

    Args:
        lines: The export's lines, oldest first.
        checkpoint: A hash known from elsewhere; the chain must pass through it, else its end was cut off or rewritten.
    """
    count, seq, prev_hash = 0, 0, GENESIS
    seen_checkpoint = not checkpoint
    for number, fault_or_entry in _parsed(lines):
        if isinstance(fault_or_entry, str):
            return Verdict(count, seq, prev_hash, f"line {number}: {fault_or_entry}")
        entry, stated_prev, stated_hash = fault_or_entry
        fault = _fault(entry, stated_prev, stated_hash, seq, prev_hash)
        if fault:
            return Verdict(count, seq, prev_hash, f"line {number}: {fault}")
        count, seq, prev_hash = count + 1, seq + 1, stated_hash
        seen_checkpoint = seen_checkpoint or stated_hash == checkpoint
    if not seen_checkpoint:
        return Verdict(count, seq, prev_hash, "the checkpoint is not in this chain: its end was cut off or rewritten")
    return Verdict(count, seq, prev_hash, "")


def _parsed(lines: Iterable[str]) -> Iterator[tuple[int, str | tuple[str, str, str]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            yield number, (str(data["entry"]), str(data["prev_hash"]), str(data["hash"]))
        except (ValueError, KeyError, TypeError):
            yield number, "not an entry of an export"


def _fault(entry: str, stated_prev: str, stated_hash: str, seq: int, prev_hash: str) -> str:
    try:
        stated_seq = json.loads(entry)["seq"]
    except (ValueError, KeyError, TypeError):
        return "the entry's text is damaged"
    if stated_seq != seq + 1:
        return f"expected entry {seq + 1}, got {stated_seq}: an entry was removed, added or moved"
    if stated_prev != prev_hash:
        return f"entry {stated_seq} does not follow the entry before it"
    if chain_hash(prev_hash, entry) != stated_hash:
        return f"entry {stated_seq} was changed after it was written"
    return ""
