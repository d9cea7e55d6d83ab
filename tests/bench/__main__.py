"""`python3 run.py bench [--quick] [part ...]`: the benchmarks, as tables. Parts: start, sip, streams, front,
emergency, failover, alerts, crowd, http, storm, dialplans, phones, pages, audit.

Loopback only; it stops by itself: about 40 minutes, with --quick about 15. --gentle keeps every load small, to try the
harness beside other work; its figures mean nothing.
"""

import argparse
import asyncio
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from tests.bench import (
    alerts,
    audit,
    crowd,
    dialplans,
    emergency,
    failover,
    front,
    http,
    machine,
    pages,
    phones,
    renders,
    sip,
    start,
    storm,
    streams,
    table,
)
from tests.bench.plan import GENTLE, QUICK, Plan

PARTS = (
    "start",
    "sip",
    "streams",
    "front",
    "emergency",
    "failover",
    "alerts",
    "crowd",
    "http",
    "storm",
    "dialplans",
    "phones",
    "pages",
    "audit",
)
EQUAL_RATE = 1_000


def main() -> int:
    """Exit code: 1 when a goal was missed, 0 otherwise; a figure taken on a busy machine is no verdict."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="what to measure; all without it")
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--gentle", action="store_true", help="small loads, to try the harness")
    parser.add_argument("--json", type=Path, help="write the goals' figures to this file as well")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the audit log's databases for the next run")
    parser.add_argument("--entries", type=int, help="entries of the audit log, in place of the plan's")
    parser.add_argument("--fill", action="store_true", help="fill what --keep names and measure nothing of it")
    parser.add_argument(
        "--backend", choices=("sqlite", "postgresql"), default="", help="of the audit log; both without"
    )
    parser.add_argument("--only", default="", help=f"of the audit log, with commas between: {', '.join(audit.PIECES)}")
    asked = parser.parse_args()
    pieces = tuple(piece for piece in asked.only.split(",") if piece)
    if unknown := set(pieces) - set(audit.PIECES):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}")
    plan = GENTLE if asked.gentle else QUICK if asked.quick else Plan()
    kept = asked.keep and asked.keep.resolve()
    entries = asked.entries or plan.audit_entries
    plan = replace(plan, audit_folder=kept, audit_entries=entries, is_only_filled=asked.fill)
    plan = replace(plan, audit_backend=asked.backend, audit_pieces=pieces)
    console = Console(highlight=False, width=max(120, Console().width))
    facts = machine.describe()
    table.show_machine(console, facts)
    found = _run(console, plan, set(asked.part or PARTS))
    table.show_goals(console, found)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": facts, "goals": [asdict(goal) for goal in found]}, indent=2))
    return 0 if all(goal.is_met is not False for goal in found) else 1


def _run(console: Console, plan: Plan, parts: set[str]) -> list[table.Goal]:
    def say(words: str) -> None:
        console.print(f"[dim]{words}[/]")

    found: list[table.Goal] = []
    everywhere = os.sched_getaffinity(0)
    measures = {
        "start": _start,
        "sip": _sip,
        "streams": _streams,
        "front": _front,
        "emergency": _emergency,
        "failover": _failover,
        "alerts": _alerts,
        "crowd": _crowd,
        "http": _http,
        "storm": _storm,
        "dialplans": _dialplans,
        "phones": _phones,
        "pages": _pages,
        "audit": _audit,
    }
    try:
        for part, measure in measures.items():
            if part in parts:
                neighbours = machine.Neighbours()
                goals = measure(console, plan, say)
                found += table.judged(goals, neighbours.cores())
            machine.pin_self(machine.LOAD_CORE)  # behind the start: a node starts on every core it finds
    finally:
        os.sched_setaffinity(0, everywhere)
    return found


def _start(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    started = asyncio.run(start.measure(plan, say))
    table.show_start(console, started)
    return table.start_goals(started)


def _emergency(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    delay = emergency.measure_delay(plan, say)
    told = asyncio.run(emergency.measure_mail(plan, say))
    table.show_emergency(console, delay, told)
    return table.emergency_goals(delay, told)


def _failover(_console: Console, _plan: Plan, say: sip.Say) -> list[table.Goal]:
    return failover.goals(asyncio.run(failover.measure(say)))


def _alerts(_console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    return alerts.goals(asyncio.run(alerts.measure(plan, say)))


def _streams(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    rows = streams.measure(plan, say)
    table.show_sip(console, f"Whole calls over streams, highest rate held for {plan.sustain_s:.0f} s", rows)
    return table.stream_goals(rows)


def _front(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    measured = front.measure(plan, say)
    table.show_front(console, measured)
    return table.front_goals(measured)


def _crowd(_console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    found = crowd.measure(sip.limit_of_ours(plan, say), plan.emergency_s, say)
    return table.crowd_goals(found, crowd.measure_stream(plan, say))


def _http(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    pages = asyncio.run(http.measure(plan, say))
    table.show_pages(console, pages)
    return table.page_goals(pages)


def _storm(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    storms = asyncio.run(storm.measure(plan, say))
    table.show_storm(console, storms)
    return table.storm_goals(storms)


def _dialplans(console: Console, _plan: Plan, _say: sip.Say) -> list[table.Goal]:
    proofs = dialplans.measure()
    table.show_proofs(console, proofs)
    made = renders.measure()
    table.show_renders(console, made)
    return table.proof_goals(proofs) + table.render_goals(made, renders.identification_us())


def _phones(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    measured = asyncio.run(phones.measure(plan, say))
    phones.show(console, measured)
    return phones.goals(measured)


def _pages(console: Console, _plan: Plan, say: sip.Say) -> list[table.Goal]:
    measured = asyncio.run(pages.measure(say))
    pages.show(console, measured)
    return pages.goals(measured)


def _audit(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    machine.spread(os.getpid())  # no load competes here, and a database's server shares no core with who asks it
    measured = asyncio.run(audit.measure(plan, say))
    for figures in measured:
        audit.show(console, figures)
    return [goal for figures in measured for goal in audit.goals(figures)]


def _sip(console: Console, plan: Plan, say: sip.Say) -> list[table.Goal]:
    equal = sip.at_equal_rate(plan, min(EQUAL_RATE, plan.most_calls_per_s))
    table.show_sip(console, "Whole calls over UDP, every element at the same rate", equal)
    rows = sip.measure(plan, say)
    table.show_sip(console, f"Whole calls over UDP, highest rate held for {plan.sustain_s:.0f} s", rows)
    by_name = {row.name: row.calls_per_s for row in rows}
    third = by_name[table.PEER] / 3
    foreign: list[sip.Foreign] = []
    if third:
        rates = {table.PEER: third, table.SUT: third}  # what ours shall hold, and both at the same
        foreign = sip.with_sipp(plan, rates, say)
        table.show_foreign(console, foreign)
    return table.sip_goals(rows, foreign)


if __name__ == "__main__":
    raise SystemExit(main())
