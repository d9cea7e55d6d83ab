"""What a change would do to every phone: rendered before and after, grouped by what differs (pure).

Theory of operation. An `Examiner` is handed phones in batches and remembers nothing of them but which differences it
has seen: the first phone of a difference is told with its lines, the others with its digest. Values are masked before a
template runs, and what only the true values could break (a password that ends a setting) is checked on these. A file
that is for every phone is rendered once for all of them. It runs in a process of its own, at the lowest priority, so it
must hold nothing that cannot be sent there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

import jinja2
from jinja2 import meta

from engine.errors import EngineError
from engine.provisioning import preview, render, settings, vendors
from engine.provisioning.preview import Difference, DiffState
from engine.provisioning.render import PhoneConfig, Renderer, served_names
from engine.provisioning.sandbox import SHIPPED
from engine.provisioning.settings import PhoneRecord
from engine.provisioning.vendors import FileKind, FileRule, Mac, Profile

BROKEN = (EngineError, ValueError, jinja2.TemplateError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What a template of somebody's own may raise: it is code."""


class ChangeKind(StrEnum):
    """Stored in `rollout.kind`."""

    TEMPLATE = "template"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Change:
    """A proposed change. `target`: `<vendor>/<template>`, or a level's name (`account`, a location's id,
    `<vendor>/<model>`); `after`: the template's text or the level's settings, None: taken away.
    """

    kind: ChangeKind
    target: str
    after: Any

    @property
    def vendor(self) -> str:
        """The family of the target; "" for a level that is no model's."""
        return self.target.partition("/")[0] if "/" in self.target else ""

    @property
    def name(self) -> str:
        """The template's or the model's name."""
        return self.target.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Subject:
    """One phone as it is served now and as it would be. The overrides are those of its vendor."""

    before: PhoneRecord
    after: PhoneRecord
    overrides_before: Mapping[str, str]
    overrides_after: Mapping[str, str]


class Outcome(StrEnum):
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    FAILS = "fails"  # only after the change
    FAILED_BEFORE = "failed_before"  # it has no file now either


@dataclass(frozen=True, slots=True)
class Finding:
    """What the change does to one phone. `likeness`: equal for phones on which the same changes (`preview.likeness`);
    `differences`: by file name, only with the first phone of its likeness; `sentence`: why `file` cannot be served.
    """

    phone_id: str
    mac: str
    label: str
    vendor: str
    model: str
    outcome: Outcome
    likeness: str = ""
    differences: Mapping[str, Difference] = field(default_factory=dict)
    file: str = ""
    sentence: str = ""


@dataclass(slots=True)
class Examiner:
    """Examines phones one after another under one change."""

    renderer: Renderer
    change: Change
    provisioning_url: str  # its token redacted
    _seen: set[str] = field(default_factory=set)
    _shared: "dict[tuple[str, str], Difference | _Failure]" = field(default_factory=dict)
    _touched: dict[tuple[str, str], bool] = field(default_factory=dict)

    def examine(self, batch: Iterable[Subject]) -> list[Finding]:
        """What the change does to each of them, in their order."""
        return [self._one(subject) for subject in batch]

    def _one(self, subject: Subject) -> Finding:
        record = subject.before
        profile = self.renderer.vendors.profiles.get(record.vendor)
        if profile is None:
            return _finding(record, Outcome.FAILED_BEFORE, sentence=f"There is no vendor {record.vendor!r} here.")
        try:
            before = self._config(record, profile)
        except BROKEN as exc:
            return _finding(record, Outcome.FAILED_BEFORE, sentence=sentence_of(exc))
        try:
            after = self._config(subject.after, profile)
        except BROKEN as exc:
            return _finding(record, Outcome.FAILS, sentence=sentence_of(exc))
        differences: dict[str, Difference] = {}
        kinds = []
        alike: dict[tuple[str | None, FileKind], Difference | _Failure] = {}  # some phones ask for a file by two names
        for name in served_names(profile, Mac(record.mac), before.model):
            rule = profile.file_rule(name)
            if rule is None or rule.template is None or not self._touches(profile, rule, before.model, subject):
                continue
            found = alike.get((rule.template, rule.kind))
            if "mac" not in rule.pattern.groupindex:
                found = self._shared_file(profile, rule, name, subject)
            elif found is None:
                found = alike[rule.template, rule.kind] = self._own(profile, rule, subject, before, after)
            if isinstance(found, _Failure):
                return _finding(record, found.outcome, file=name, sentence=found.sentence)
            if found.state is DiffState.CHANGED:
                differences[name] = found
                kinds.append((rule.kind.value, found))
        if not differences:
            return _finding(record, Outcome.UNCHANGED)
        likeness = preview.likeness(before, kinds)
        is_first = likeness not in self._seen
        self._seen.add(likeness)
        return _finding(record, Outcome.CHANGED, likeness=likeness, differences=differences if is_first else {})

    def _config(self, record: PhoneRecord, profile: Profile) -> PhoneConfig:
        """The phone's values, masked; refused as they would be unmasked."""
        config = settings.phone_config(record, profile, self.provisioning_url)
        render.refuse_unsafe(config, profile.refused)
        return preview.masked_config(config)

    def _own(
        self, profile: Profile, rule: FileRule, subject: Subject, before: PhoneConfig, after: PhoneConfig
    ) -> "Difference | _Failure":
        if before == after and subject.overrides_before == subject.overrides_after:
            return Difference(DiffState.UNCHANGED)
        return self._compared(profile, rule, (before, subject.overrides_before), (after, subject.overrides_after))

    def _shared_file(self, profile: Profile, rule: FileRule, name: str, subject: Subject) -> "Difference | _Failure":
        """A file that is for every phone of the account: the same for all of a vendor, so it is compared once."""
        found = self._shared.get((profile.name, name))
        if found is None:
            try:
                before, after = (
                    preview.masked_config(settings.site_config(record.account, profile, self.provisioning_url))
                    for record in (subject.before, subject.after)
                )
            except BROKEN as exc:
                found = _Failure(Outcome.FAILED_BEFORE, sentence_of(exc))
            else:
                found = self._compared(
                    profile, rule, (before, subject.overrides_before), (after, subject.overrides_after)
                )
            self._shared[profile.name, name] = found
        return found

    def _compared(
        self,
        profile: Profile,
        rule: FileRule,
        before: tuple[PhoneConfig, Mapping[str, str]],
        after: tuple[PhoneConfig, Mapping[str, str]],
    ) -> "Difference | _Failure":
        try:
            old = self.renderer.render(profile, rule, *before)
        except BROKEN as exc:
            return _Failure(Outcome.FAILED_BEFORE, sentence_of(exc))
        try:
            new = self.renderer.render(profile, rule, *after)
        except BROKEN as exc:
            return _Failure(Outcome.FAILS, sentence_of(exc))
        return preview.compare(old.decode("utf-8", "replace"), new.decode("utf-8", "replace"))

    def _touches(self, profile: Profile, rule: FileRule, model: str, subject: Subject) -> bool:
        """Whether the change can show in that file at all."""
        if self.change.kind is not ChangeKind.TEMPLATE:
            return True
        template = template_of(profile, rule, model)
        key = (profile.name, template)
        if key not in self._touched:
            texts = (subject.overrides_before, subject.overrides_after)
            self._touched[key] = any(
                self.change.name in parts_of(template, profile.templates, overrides) for overrides in texts
            )
        return self._touched[key]


@dataclass(frozen=True, slots=True)
class _Failure:
    outcome: Outcome
    sentence: str


def _finding(record: PhoneRecord, outcome: Outcome, **more: Any) -> Finding:
    return Finding(record.phone_id, record.mac, record.label, record.vendor, record.model, outcome, **more)


def sentence_of(error: Exception) -> str:
    """Why a file cannot be made. Our own errors are sentences; a template's own are named by their kind too."""
    said = str(error)[:300]
    if isinstance(error, EngineError):
        return said
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"Line {error.lineno} of {error.name or 'the template'}: {said}"
    return f"{type(error).__name__}: {said}" if not isinstance(error, ValueError) else said


def template_of(profile: Profile, rule: FileRule, model: str) -> str:
    """The name of the template that file is made of; "" when that model has none."""
    if rule.template != "model":
        return rule.template or ""
    known = profile.models.get(model)
    return (known.template or "") if known is not None else ""


def parts_of(template: str, shipped: Mapping[str, str], own: Mapping[str, str]) -> frozenset[str]:
    """That template and every other it is made of: what it extends, includes or imports, and so on down.

    An account's own text that names itself means the shipped one it stands in place of, as `shipped/<name>` does. One
    whose parts are only known when it runs counts as made of all.
    """
    environment = jinja2.Environment(autoescape=True)  # parses alone; nothing is rendered with it
    seen: set[tuple[str, bool]] = set()
    waiting = [(template, template in own)]
    while waiting:
        name, is_own = waiting.pop()
        text = (own if is_own else shipped).get(name)
        if text is None or (name, is_own) in seen:
            continue
        seen.add((name, is_own))
        try:
            parts = set(meta.find_referenced_templates(environment.parse(text)))
        except jinja2.TemplateError:
            continue  # it cannot be rendered, and the rendering says why
        if None in parts:
            return frozenset(shipped) | frozenset(own)
        for part in parts:
            plain = (part or "").removeprefix(SHIPPED)
            waiting.append((plain, plain == part and part in own and part != name))
    return frozenset(name for name, _ in seen)


def is_concerned(profile: Profile | None, change: Change, model: str, file: str, own: Mapping[str, str]) -> bool:
    """Whether the change is in that file of such a phone. Of a template it is in the files made of it; of settings in
    all that are made for the phone. A name that the family does not know is no file of ours, whoever asks for it.

    Args:
        own: The account's own templates of the family, the changed one among them.
    """
    rule = profile.file_rule(file) if profile is not None else None
    if profile is None or rule is None or not rule.is_served:
        return False
    if change.kind is not ChangeKind.TEMPLATE:
        return True
    return change.name in parts_of(template_of(profile, rule, model), profile.templates, own)


def makes_a_shared_file(profile: Profile, change: Change, own: Mapping[str, str]) -> bool:
    """Whether the changed template is part of a file that is for every phone of the account, so that no phone can get
    it before the others.

    Args:
        own: As of `is_concerned`: one of them may bring the changed one into such a file.
    """
    if change.kind is not ChangeKind.TEMPLATE:
        return False
    shared = (rule.template for rule in profile.files if rule.template and "mac" not in rule.pattern.groupindex)
    return any(change.name in parts_of(template, profile.templates, own) for template in shared if template != "model")


# --- In the worker's process ------------------------------------------------------------------------------------------

_examiner: Examiner | None = None


@cache
def renderer() -> Renderer:
    """This process's own, for what is rendered to be looked at."""
    return Renderer(vendors.known())


def prepare_worker(change: Change, provisioning_url: str) -> None:
    """Make this process's examiner; called once, when the process starts."""
    global _examiner  # noqa: PLW0603  # a pool's worker has no other place for what it keeps between batches
    _examiner = Examiner(renderer(), change, provisioning_url)


def examine_in_worker(batch: list[Subject]) -> list[Finding]:
    assert _examiner is not None, "prepare_worker comes first"
    return _examiner.examine(batch)
