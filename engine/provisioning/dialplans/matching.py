"""How rules are matched against what has been typed so far: an automaton per rule, never a regular expression of the
library, because a plan may be hostile and a backtracking match has no bound (pure).

Theory of operation. A grammar reads each rule into an expression (`Keys`, `Emit`, `Sequence`, `Either`, `Repeat`,
`Group`, `Muted`, `Begin`, `End`) and compiles it into states. A `Run` holds every state the rule can be in, each with
the text that would be sent by then, so that matching and rewriting are one pass: keys echo what was typed, `Muted`
swallows it, `Emit` adds to it. Time is states times digits; `MAX_STATES` bounds the first, the number the second.

Two families of phones differ in what a complete rule means while another one asks for more digits: `shortest` sends
at once (RFC 3435 §2.1.5), `unambiguous` waits for a timer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import reduce

from engine.provisioning.dialplans.verdict import Verdict, after_timer, never, settled

DIGITS = frozenset("0123456789")
KEYPAD = frozenset("0123456789*#+")
MAX_STATES = 800  # of one rule; with MAX_RULES of them a hostile plan costs a quarter of a second, a real one 0.3 ms
MAX_REPEATS = 64
MAX_RULES = 200


@dataclass(frozen=True, slots=True)
class Keys:
    """One key, any of `accepts`."""

    accepts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Emit:
    """Reads nothing, sends `text`."""

    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Either:
    options: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From `least` to `most` times; None: without end."""

    part: "Expression"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Parentheses that a replacement can quote, counted from 1."""

    number: int
    part: "Expression"


@dataclass(frozen=True, slots=True)
class Muted:
    """Read, but not sent."""

    part: "Expression"


class Anchor(Enum):
    BEGIN = "^"
    END = "$"


Expression = Keys | Emit | Sequence | Either | Repeat | Group | Muted | Anchor

_Free = tuple[int, str, Anchor | None]
_Keyed = tuple[frozenset[str], int, bool]


class Program:
    """A compiled expression. `quoting`: send only what that group matched, instead of the whole.

    Raises:
        ValueError: more than `MAX_STATES` states.
    """

    __slots__ = ("_quoting", "accept", "free", "has_end", "keyed")

    def __init__(self, expression: Expression, *, quoting: int | None = None) -> None:
        self.free: list[list[_Free]] = [[]]
        self.keyed: list[list[_Keyed]] = [[]]
        self.has_end = False
        self._quoting = quoting
        self.accept = self._add(expression, 0, quoting is None)

    def _state(self) -> int:
        if len(self.free) >= MAX_STATES:
            raise ValueError("the rule is too long")
        self.free.append([])
        self.keyed.append([])
        return len(self.free) - 1

    def _add(self, expression: Expression, start: int, echo: bool) -> int:
        match expression:
            case Keys(accepts):
                self.keyed[start].append((accepts, end := self._state(), echo))
                return end
            case Sequence(parts):
                return reduce(lambda place, part: self._add(part, place, echo), parts, start)
            case Repeat(part, least, most):
                return self._repeat(part, least, most, start, echo)
            case Either(options):
                ends = [self._add(option, self._free(start, "", None), echo) for option in options]
                end = self._state()
                for place in ends:
                    self.free[place].append((end, "", None))
                return end
            case Group(_, part) | Muted(part):
                quoted = isinstance(expression, Group) and (echo or expression.number == self._quoting)
                return self._add(part, start, quoted)
            case Emit() | Anchor():
                anchor = expression if isinstance(expression, Anchor) else None
                self.has_end = self.has_end or anchor is Anchor.END
                text = expression.text if isinstance(expression, Emit) and self._quoting is None else ""
                return self._free(start, text, anchor)

    def _free(self, start: int, text: str, anchor: Anchor | None) -> int:
        end = self._state()
        self.free[start].append((end, text, anchor))
        return end

    def _repeat(self, part: Expression, least: int, most: int | None, start: int, echo: bool) -> int:
        if least > MAX_REPEATS or (most or 0) > MAX_REPEATS:
            raise ValueError("a part is repeated too often")
        for _ in range(least):
            start = self._add(part, start, echo)
        if most is None:
            loop, end = self._state(), self._state()
            self.free[start].append((loop, "", None))
            self.free[self._add(part, loop, echo)].append((loop, "", None))
            self.free[loop].append((end, "", None))
            return end
        end = self._state()
        for _ in range(most - least):
            self.free[start].append((end, "", None))
            start = self._add(part, start, echo)
        self.free[start].append((end, "", None))
        return end


class Run:
    """One rule while a number is typed."""

    __slots__ = ("_reached", "_seed", "_start", "program")

    def __init__(self, program: Program) -> None:
        self.program = program
        self._start = True
        self._seed: dict[int, str] = {0: ""}
        self._reached = self._closure(at_end=False)

    def _closure(self, *, at_end: bool) -> dict[int, str]:
        """The states reachable without a key, the preferred way to each first."""
        free, found = self.program.free, dict[int, str]()
        stack = list(reversed(self._seed.items()))
        while stack:
            place, sent = stack.pop()
            if place in found:
                continue
            found[place] = sent
            for to, text, anchor in reversed(free[place]):
                if anchor is None or (self._start if anchor is Anchor.BEGIN else at_end):
                    stack.append((to, sent + text if text else sent))
        return found

    def press(self, key: str) -> None:
        keyed, following = self.program.keyed, dict[int, str]()
        for place, sent in self._reached.items():
            for accepts, to, echo in keyed[place]:
                if key in accepts and to not in following:
                    following[to] = sent + key if echo else sent
        self._start = False
        self._seed = following
        self._reached = self._closure(at_end=False) if following else following

    @property
    def sent(self) -> str | None:
        """What would be sent now; None while the rule is not complete."""
        if not self.program.has_end:
            return self._reached.get(self.program.accept)
        return self._closure(at_end=True).get(self.program.accept)

    @property
    def is_dead(self) -> bool:
        return not self._reached

    @property
    def can_go_on(self) -> bool:
        keyed = self.program.keyed
        return any(keyed[place] for place in self._reached)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a plan. `wait_s`: its own timer after the last digit, None when it has none; `is_barred`: what it
    matches is refused.
    """

    text: str
    program: Program
    wait_s: float | None = None
    is_barred: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """After `typed`: the complete rules with what each would send, and those that can take more digits."""

    typed: str
    complete: tuple[tuple[Rule, str], ...]
    alive: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No rule decided. `is_partial`: one of them asks for more digits; else no rule can match `typed` any more."""

    typed: str
    is_partial: bool


def steps(rules: Iterable[Rule], number: str) -> Iterator[Step]:
    """The plan after each key of the number."""
    runs = [(rule, Run(rule.program)) for rule in rules]
    for length, key in enumerate(number, start=1):
        for _, run in runs:
            run.press(key)
        runs = [(rule, run) for rule, run in runs if not run.is_dead]
        complete = tuple((rule, sent) for rule, run in runs if (sent := run.sent) is not None)
        yield Step(number[:length], complete, tuple(rule for rule, run in runs if run.can_go_on))


def sent_by(rule: Rule, number: str) -> str | None:
    """What one rule sends for the whole number; None when it does not match it."""
    run = Run(rule.program)
    for key in number:
        run.press(key)
    return run.sent


def shortest(rules: Iterable[Rule], number: str) -> Verdict | Unmatched:
    """Decide as RFC 3435 §2.1.5 does: the first rule to be complete without a timer sends, whatever else could match
    later.
    """
    for step in steps(rules, number):
        barred = next((rule for rule, _ in step.complete if rule.is_barred), None)
        if barred is not None:
            return never(f"a rule refuses {step.typed}", rule=barred.text)
        at_once = next(((rule, sent) for rule, sent in step.complete if not rule.wait_s), None)
        if at_once is not None:
            return settled(number, step.typed, at_once[0].text, at_once[1])
        if step.typed == number and step.complete:
            rule, sent = step.complete[0]
            return after_timer(sent, "waits for the rule's timer", rule=rule.text)
        if not step.alive and not step.complete:
            return Unmatched(step.typed, is_partial=False)
    return Unmatched(number, is_partial=True)


def unambiguous(rules: Iterable[Rule], number: str, timer_s: float) -> Verdict | Unmatched:
    """Decide as phones do that wait `timer_s` after a complete rule while another one can take more digits. A rule with
    a timer of its own of 0 s does not wait.
    """
    for step in steps(rules, number):
        if step.complete:
            at_once = _without_waiting(step, timer_s)
            barred = next((rule for rule, _ in step.complete if rule.is_barred), None)
            if barred is not None and (at_once is not None or step.typed == number):
                return never(f"a rule refuses {step.typed}", rule=barred.text)
            if at_once is not None:
                return settled(number, step.typed, at_once[0].text, at_once[1])
            if step.typed == number:
                return _waiting(step, timer_s)
        elif not step.alive:
            return Unmatched(step.typed, is_partial=False)
    return Unmatched(number, is_partial=True)


def _without_waiting(step: Step, timer_s: float) -> tuple[Rule, str] | None:
    """The rule that sends now, if one does."""
    own = next(((rule, sent) for rule, sent in step.complete if rule.wait_s == 0), None)
    if (
        own is not None
    ):  # no manual says whose rewriting counts then: an earlier one that changes the number is believed
        return next(((rule, sent) for rule, sent in step.complete if sent != own[1]), own)
    if any(rule.wait_s for rule, _ in step.complete) or (step.alive and timer_s > 0):
        return None
    return step.complete[0]


def _waiting(step: Step, timer_s: float) -> Verdict:
    rule, sent = next(((rule, sent) for rule, sent in step.complete if rule.wait_s is not None), step.complete[0])
    wait_s = timer_s if rule.wait_s is None else rule.wait_s
    longer = next((other.text for other in step.alive if other is not rule), None)
    because = f", since {longer} could take more digits" if longer is not None else ""
    return after_timer(sent, f"waits {wait_s:g} s after its last digit{because}", rule=rule.text)
