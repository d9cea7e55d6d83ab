"""The figures as tables in the terminal, each beside its goal and with the machine they belong to."""

from dataclasses import dataclass, replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.crowd import Crowd
from tests.bench.dialplans import Proof
from tests.bench.emergency import Delay, Told
from tests.bench.front import Front
from tests.bench.generator import Outcome
from tests.bench.http import Pages
from tests.bench.machine import percentile
from tests.bench.renders import OWN_US, PLAIN_US, Rendering
from tests.bench.sip import Foreign, Sustained
from tests.bench.start import Started
from tests.bench.storm import Boots

MOST_NEIGHBOURS = 0.15  # of a core: beyond it a figure says more about them than about us
SUT, PEER = "Callpoint edge", "Kamailio tm+rr, 1 worker, -x fm"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure against what it shall be; `is_met` None: no verdict. `neighbours`: cores that other work took."""

    what: str
    measured: str
    wanted: str
    is_met: bool | None
    neighbours: float = 0.0


def judged(found: list[Goal], neighbours: float) -> list[Goal]:
    """The goals of one part; on a machine that others used meanwhile there is no verdict."""
    is_quiet = neighbours <= MOST_NEIGHBOURS
    return [replace(goal, is_met=goal.is_met if is_quiet else None, neighbours=neighbours) for goal in found]


def sip_goals(rows: list[Sustained], foreign: list[Foreign]) -> list[Goal]:
    by_name = {row.name: row for row in rows}
    ours, theirs = by_name[SUT].calls_per_s, by_name[PEER].calls_per_s
    ratio = ours / theirs if theirs else 0.0
    found = [Goal("whole calls over UDP, share of Kamailio", f"{ratio:.2f}", "≥ 0.5", ratio >= 0.5)]
    for each in foreign:
        measured = f"{each.calls_per_s:.0f}/s, {each.failed} failed, {each.retransmitted} repeated"
        found.append(Goal(f"SIPp: {each.name}", measured, "0 failed, 0 repeated", each.is_clean))
    return found


def emergency_goals(delay: Delay, told: Told) -> list[Goal]:
    is_whole = delay.with_location == delay.calls and not delay.fault
    p50, p99 = delay.added_p50_ms, delay.added_p99_ms
    came = f"{told.p99_ms:.0f} ms, {told.missing} of {told.calls} missing"
    is_told = told.p99_ms < 1000 and not told.missing and told.calls > 0
    return [
        Goal("911 beside 500 calls/s, added p50", f"{p50:.2f} ms", "< 0.5 ms", p50 < 0.5 and is_whole),
        Goal("911 beside 500 calls/s, added p99", f"{p99:.2f} ms", "< 5 ms", p99 < 5 and is_whole),
        Goal("INVITE to mail server, p99", came, "< 1000 ms", is_told),
    ]


def stream_goals(rows: list[Sustained]) -> list[Goal]:
    rates = {row.name: row.calls_per_s for row in rows}
    found = []
    for transport in ("TCP", "TLS"):
        ours, theirs = rates[f"{SUT} over {transport}"], rates[f"Kamailio over {transport}"]
        ratio = ours / theirs if theirs else 0.0
        found.append(Goal(f"whole calls over {transport}, share of Kamailio", f"{ratio:.2f}", "≥ 0.5", ratio >= 0.5))
    return found


def front_goals(front: Front) -> list[Goal]:
    """No share is met with calls lost: that one process costs little says nothing then."""
    told = f" ({'; '.join(front.faults)})" if front.faults else ""
    return [
        Goal("Kamailio in front, 2 % to Callpoint, share of plain by CPU", f"{front.share:.2f}{told}", "≥ 0.9",
             front.share >= 0.9 and not front.faults),
        Goal("the same, Callpoint on Kamailio's own core", f"{front.share_of_one_core:.2f}", "", None),
    ]  # fmt: skip


def proof_goals(proofs: list[Proof]) -> list[Goal]:
    worst = max(proofs, key=lambda proof: proof.median_us)
    measured = f"{worst.median_us:.0f} µs ({worst.grammar})"
    return [Goal("proof of one dial plan, the slowest", measured, "< 1000 µs", worst.median_us < 1000)]


def render_goals(renders: list[Rendering], identified_us: float) -> list[Goal]:
    plain, own = max(renders, key=lambda one: one.plain_us), max(renders, key=lambda one: one.own_us)
    goals = [
        Goal("a file of 6 kB, the slowest family", f"{plain.plain_us:.0f} µs ({plain.family})", "< 450 µs",
             plain.plain_us < PLAIN_US),
        Goal("the same with an own template", f"{own.own_us:.0f} µs ({own.family})", "< 850 µs", own.own_us < OWN_US),
    ]  # fmt: skip
    if identified_us:
        told = f"{identified_us:.0f} µs"
        goals.append(Goal("who asks, the slowest of real requests", told, "< 50 µs", identified_us < 50))
    return goals


def crowd_goals(crowd: Crowd, streamed: Outcome) -> list[Goal]:
    half, twice = crowd.half, crowd.twice
    p50, p99 = (
        percentile(half.emergency_delays_ms, share) - near
        for share, near in ((0.5, crowd.direct_p50_ms), (0.99, crowd.direct_p99_ms))
    )
    is_whole = half.with_location == half.emergencies and half.is_clean
    late, pause = percentile(twice.emergency_delays_ms, 0.99), max(crowd.swapped.emergency_delays_ms)
    by_stream = percentile(streamed.emergency_delays_ms, 0.99)
    carried = f"{twice.emergencies_whole} of {twice.emergencies}"
    is_carried = twice.emergencies_whole == twice.emergencies
    return [
        Goal("100,000 phones: table built", f"{crowd.built_s:.1f} s", "< 5 s", crowd.built_s < 5),
        Goal("100,000 phones: memory", f"{crowd.own_mb:.0f} MB", "< 600 MB", crowd.own_mb < 600),
        Goal("911 at half load, added p50", f"{p50:.2f} ms", "< 0.5 ms", p50 < 0.5 and is_whole),
        Goal("911 at half load, added p99", f"{p99:.2f} ms", "< 5 ms", p99 < 5 and is_whole),
        Goal("911 while the table is swapped, longest", f"{pause:.0f} ms", "< 50 ms", pause < 50),
        Goal("911 at twice the load, whole", carried, "all", is_carried),
        Goal("911 at twice the load, p99", f"{late:.1f} ms", "< 50 ms", late < 50),
        Goal(
            "911 at twice the load over TCP, whole",
            f"{streamed.emergencies_whole} of {streamed.emergencies}",
            "all",
            streamed.emergencies_whole == streamed.emergencies,
        ),
        Goal("911 at twice the load over TCP, p99", f"{by_stream:.1f} ms", "< 50 ms", by_stream < 50),
        Goal("10,000 calls up: memory", f"{crowd.calls_up_mb:.0f} MB", "< 400 MB", crowd.calls_up_mb < 400),
    ]


def start_goals(started: Started) -> list[Goal]:
    memory = f"{started.own_mb:.0f} MB"
    return [
        Goal("start to first answer", f"{started.again_s:.2f} s", "< 2 s", started.again_s < 2),
        Goal("idle memory of both, shared pages once", memory, "< 150 MB", started.own_mb < 150),
    ]


def page_goals(pages: Pages) -> list[Goal]:
    unchanged, fresh, tls, static_tls = pages.unchanged, pages.fresh, pages.tls, pages.static_tls
    ratio = static_tls.cpu_us / tls.cpu_us if tls.cpu_us else 0.0
    rate = tls.per_s / static_tls.per_s if static_tls.per_s else 0.0
    return [
        Goal("unchanged phone", f"{unchanged.per_s:.0f}/s", "≥ 12000/s", unchanged.per_s >= 12_000),
        Goal("rendered afresh", f"{fresh.per_s:.0f}/s", "≥ 1500/s", fresh.per_s >= 1500),
        Goal("new TLS connection, share of nginx per core", f"{ratio:.2f}", "≥ 0.45", ratio >= 0.45),
        Goal("the same by rate, one client core", f"{rate:.2f}", "", None),
    ]


def storm_goals(storms: list[Boots]) -> list[Goal]:
    alone, one, two = storms
    worst = max(alone.p99_ms, two.p99_ms)
    wrong = alone.wrong + two.wrong
    ratio = two.cpu_us / one.cpu_us if one.cpu_us else 0.0
    full = two.full_cpu_us / one.full_cpu_us if one.full_cpu_us else 0.0
    return [
        Goal(f"{one.phones} phones boot: p99 of a request", f"{worst:.0f} ms", "< 250 ms", worst < 250),
        Goal("the same: boots that failed", str(wrong), "0", wrong == 0),
        Goal("two workers, CPU a request, of one's: as much as they carry", f"{full:.2f}", "≤ 1.2", full <= 1.2),
        Goal("the same in the storm, half the rate for each", f"{ratio:.2f}", "", None),
    ]


def show_storm(console: Console, storms: list[Boots]) -> None:
    columns = ("node", "requests", "per s", "p50 ms", "p99 ms", "CPU µs", "at most/s", "CPU µs", "peak MB", "wrong")
    table = _table("After a power cut: five files each, a new connection for every file", *columns)
    for each in storms:
        times = (f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}", f"{each.cpu_us:.0f}")
        full = (f"{each.full_per_s:.0f}", f"{each.full_cpu_us:.0f}", f"{each.peak_mb:.0f}")
        table.add_row(each.name, str(len(each.times_ms)), f"{each.per_s:.0f}", *times, *full, str(each.wrong))
    console.print(table)


def show_machine(console: Console, facts: dict[str, str]) -> None:
    table = Table(title="Machine", show_header=False, title_justify="left")
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)


def show_sip(console: Console, title: str, rows: list[Sustained]) -> None:
    table = _table(
        title,
        "element",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "added p50",
        "added p99",
        "CPU µs/call",
        "peak MB",
        "own MB",
        "",
    )
    for row in rows:
        figures = (row.p50_ms, row.p99_ms, row.added_p50_ms, row.added_p99_ms)
        table.add_row(
            row.name, f"{row.calls_per_s:.0f}", *(f"{each:.2f}" for each in figures), f"{row.cpu_us:.0f}",
            f"{row.peak_mb:.0f}", f"{row.own_mb:.0f}", row.fault,
        )  # fmt: skip
    console.print(table)


def show_proofs(console: Console, proofs: list[Proof]) -> None:
    table = _table("Proof that a dial plan sends 911 and 933 at once", "grammar", "plan", "median µs", "p99 µs")
    for proof in sorted(proofs, key=lambda one: -one.median_us):
        table.add_row(proof.grammar, escape(proof.plan[:60]), f"{proof.median_us:.0f}", f"{proof.p99_us:.0f}")
    console.print(table)


def show_renders(console: Console, renders: list[Rendering]) -> None:
    table = _table(
        "One phone's own file made afresh", "family", "model", "bytes", "shipped templates µs", "with an own one µs"
    )
    for one in renders:
        table.add_row(one.family, one.model, f"{one.size:,}", f"{one.plain_us:.0f}", f"{one.own_us:.0f}")
    console.print(table)


def show_foreign(console: Console, rows: list[Foreign]) -> None:
    table = _table(
        "The same with SIPp as both ends", "element", "calls/s", "whole", "failed", "repeated", "CPU µs/call"
    )
    for row in rows:
        counts = (row.successful, row.failed, row.retransmitted)
        table.add_row(row.name, f"{row.calls_per_s:.0f}", *map(str, counts), f"{row.cpu_us:.0f}")
    console.print(table)


def show_emergency(console: Console, delay: Delay, told: Told) -> None:
    table = _table("911 beside 500 other calls a second", "from", "to", "calls", "p50 ms", "p99 ms", "")
    carried = delay.fault or f"{delay.with_location} with PIDF-LO"
    table.add_row(
        "INVITE out", "INVITE at the carrier", str(delay.calls), _ms(delay.p50_ms), _ms(delay.p99_ms), carried
    )
    added = (_ms(delay.added_p50_ms), _ms(delay.added_p99_ms))
    table.add_row("", "beyond the direct path", str(delay.calls), *added, "")
    came = told.fault or f"{told.missing} missing"
    table.add_row("INVITE out", "mail at the mail server", str(told.calls), _ms(told.p50_ms), _ms(told.p99_ms), came)
    console.print(table)


def show_pages(console: Console, pages: Pages) -> None:
    columns = ("server", "per s", "p50 ms", "p99 ms", "CPU µs", "per core", "peak MB", "wrong")
    size = pages.unchanged.body_bytes
    kept = _table(f"Configurations of {size} bytes over keep-alive, 64 connections", *columns)
    for each in (pages.unchanged, pages.static, pages.fresh):
        times = (f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}")
        figures = (f"{each.cpu_us:.1f}", f"{each.per_core:.0f}", f"{each.peak_mb:.0f}", str(each.wrong))
        kept.add_row(each.name, f"{each.per_s:.0f}", *times, *figures)
    console.print(kept)
    fresh = _table(
        "A new TLS 1.3 connection for each request, full handshake, ECDSA P-256",
        "server", "per s", "mean ms", "CPU µs", "per core", "peak MB", "wrong",
    )  # fmt: skip
    for each in (pages.tls, pages.static_tls):
        figures = (f"{each.cpu_us:.0f}", f"{each.per_core:.0f}", f"{each.peak_mb:.0f}", str(each.wrong))
        fresh.add_row(each.name, f"{each.per_s:.0f}", f"{each.p50_ms:.2f}", *figures)
    console.print(fresh)


def show_start(console: Console, started: Started) -> None:
    table = _table("Start and rest", "what", "figure")
    table.add_row("first start, database made, to both answers", f"{started.first_s:.2f} s")
    table.add_row("start to first SIP answer", f"{started.sip_s:.2f} s")
    table.add_row("start to first HTTP answer", f"{started.http_s:.2f} s")
    table.add_row("idle, main and edge, resident", f"{started.resident_mb:.0f} MB")
    table.add_row("idle, main and edge, shared pages once", f"{started.own_mb:.0f} MB")
    console.print(table)


def show_front(console: Console, front: Front) -> None:
    title = f"One dial in fifty to 911, {front.rate:.0f} calls a second offered to each in turn"
    table = _table(title, "setup", "calls/s", "front µs", "Callpoint µs", "p50 ms", "p99 ms", "fault")
    for each in front.rounds:
        for run in each:
            figures = [run.calls_per_s, run.front_us, run.node_us]
            cells = [f"{figure:.0f}" for figure in figures] + [f"{run.p50_ms:.2f}", f"{run.p99_ms:.1f}", run.fault]
            table.add_row(run.name, *cells)
    console.print(table)


def show_goals(console: Console, found: list[Goal]) -> None:
    table = _table("Goals", "figure", "measured", "wanted", "")
    for goal in found:
        mark = "[green]met[/]" if goal.is_met else "[red]missed[/]"
        if goal.is_met is None:
            is_busy = goal.neighbours > MOST_NEIGHBOURS
            mark = f"[yellow]no verdict: others used {goal.neighbours:.1f} cores[/]" if is_busy else ""
        table.add_row(goal.what, goal.measured, goal.wanted, mark)
    console.print(table)


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table
