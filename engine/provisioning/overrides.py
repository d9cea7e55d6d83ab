"""Whether an account's own template may be published: it is tried on a sample before any phone meets it (pure).

Theory of operation. The text is compiled, then rendered for a made-up phone of each template of the family and for
some of the account's own phones, every file of each. It is refused with sentences that name line, number, rule and
remedy when

- it does not compile, fails, or asks for too much work (`engine.provisioning.sandbox`);
- 911 or 933 would wait, change or be lost on any plan in the file (`render.refuse_slow_emergency`);
- a value could become a second setting: the made-up phone is rendered once with plain words and once with words that
  hold every mark the format knows, and both files must have the same settings by name.

What the shipped templates fail at too is no fault of the account's text. Where the text changes what keeps a phone
reachable (`engine.provisioning.override_changes`), that is told setting by setting, and refused where it would keep 911
from being dialled.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

from engine.errors import EngineError
from engine.provisioning import formats, settings
from engine.provisioning.functionkeys import FunctionKey, KeyKind
from engine.provisioning.override_changes import Found
from engine.provisioning.render import LineConfig, PhoneConfig, Renderer
from engine.provisioning.sandbox import MAX_SOURCE, BrokenTemplate
from engine.provisioning.settings import AccountRecord, PhoneRecord
from engine.provisioning.timezone import zone_rule
from engine.provisioning.vendors import FileRule, Profile, Support

MAX_WARNINGS = 12
MAX_FAULTS = 5  # told at once; a text that is wrong is mostly wrong in one place
SAMPLE_URL = "https://phones.example.net/p/sample/"
_PLAIN = "Sample"
_MARKED = "a<b>&\"c'#=;\\,|{%$}[ ]d"
_NAME_ENDS = re.compile(r"[\s=:]")


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of trying a text: it may be published when `faults` is empty. `lines`: of the faults, 0 where unknown.
    `tried`: how many files were rendered.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    line: int = 0
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A phone to try a text on. `name`: for sentences."""

    name: str
    config: PhoneConfig


def examine(
    renderer: Renderer,
    profile: Profile,
    texts: Mapping[str, str],
    name: str,
    phones: Sequence[PhoneRecord] = (),
    account: AccountRecord | None = None,
) -> Examined:
    """Try the text of that name, one of `texts` (all of the account's own for this vendor).

    Args:
        phones: Some of the account's phones of that vendor. account: for the files that are for every phone.
    """
    if name not in profile.templates:
        known = ", ".join(sorted(profile.templates))
        return Examined((f"{profile.title} has no template {name}; there are {known}.",))
    if not texts[name].strip():
        return Examined(("The text is empty: phones would be served an empty file.",))
    if len(texts[name]) > MAX_SOURCE:
        return Examined((f"The text is longer than {MAX_SOURCE} characters.",))
    try:
        renderer.sandbox(profile, texts).compile_all()
    except BrokenTemplate as exc:
        return Examined((str(exc),), line=exc.line)
    return _Trial(renderer, profile, texts).run(_samples(profile, phones), account)


def examine_back(
    renderer: Renderer,
    profile: Profile,
    texts: Mapping[str, str],
    name: str,
    phones: Sequence[PhoneRecord] = (),
    account: AccountRecord | None = None,
) -> Examined:
    """What becomes of the account's other texts when the shipped one stands again under that name: they may extend it,
    or import from it what only the account's own had.

    Faults that the texts as they are have too do not hold the way back closed: they are warnings.

    Args:
        texts: All of the account's own for this vendor, with the one that goes.
    """
    others = {own: text for own, text in texts.items() if own != name}
    if not others:
        return Examined()
    samples = _samples(profile, phones)
    then = _Trial(renderer, profile, others).run(samples, account)
    if then.faults and _Trial(renderer, profile, texts).run(samples, account).faults:
        return Examined((), (*then.faults, *then.warnings)[:MAX_WARNINGS], 0, then.tried)
    return then


class _Trial:
    """One text on one sample: collects what is wrong until there is enough."""

    def __init__(self, renderer: Renderer, profile: Profile, texts: Mapping[str, str]) -> None:
        self._renderer, self._profile, self._texts = renderer, profile, texts
        self._faults: dict[str, None] = {}
        self._warnings: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._line = 0
        self._tried = 0

    def run(self, samples: Sequence[Sample], account: AccountRecord | None) -> Examined:
        self._try_all(samples)
        if account is not None:
            shared = Sample("every phone", settings.site_config(account, self._profile, SAMPLE_URL))
            for rule in _rules(self._profile, is_own=False):
                self._try(shared, rule)
        if not self._faults:
            self._try_all(_of_other_models(self._profile))
        if not self._faults:
            for model in sample_models(self._profile):
                self._probe(model)
        warnings = tuple(self._warnings.values())[:MAX_WARNINGS]
        return Examined(tuple(self._faults)[:MAX_FAULTS], warnings, self._line, self._tried)

    def _try_all(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            for rule in own_rules(self._profile):
                self._try(sample, rule)

    def _try(self, sample: Sample, rule: FileRule) -> None:
        if len(self._faults) >= MAX_FAULTS:
            return
        shipped = self._rendered(rule, sample.config, {})
        if isinstance(shipped, EngineError | ValueError):
            return
        self._tried += 1
        try:
            made, found = self._renderer.tried(self._profile, rule, sample.config, self._texts)
        except BrokenTemplate as exc:
            self._faults[str(exc)] = None
            self._line = self._line or exc.line
        except (EngineError, ValueError) as exc:
            self._faults[f"For {sample.name}: {exc}"] = None
        else:
            fault = formats.fault_of(made.decode()) if self._profile.escape == "xml" else ""
            if fault and not formats.fault_of(shipped):
                self._faults[f"For {sample.name}: the file is no XML: {fault} of the file. No phone reads it."] = None
            self._tell(sample, found)

    def _tell(self, sample: Sample, found: Sequence[Found]) -> None:
        """Each setting once, with the first sample that shows it."""
        for one in found:
            told = f"For {sample.name}, with {' and '.join(sorted(self._texts))}: {one.sentence}"
            if one.harm and (one.setting, one.harm) not in self._told:
                self._told.add((one.setting, one.harm))
                self._faults[told] = None
            elif not one.harm:
                self._warnings.setdefault(one.setting, told)

    def _rendered(
        self, rule: FileRule, config: PhoneConfig, texts: Mapping[str, str]
    ) -> str | EngineError | ValueError:
        try:
            return self._renderer.render(self._profile, rule, config, texts).decode()
        except (EngineError, ValueError) as exc:
            return exc

    def _probe(self, model: str) -> None:
        """Refuse a text in which a value could become a second setting; the value is named."""
        plain = sample_config(self._profile, model)
        for rule in own_rules(self._profile):
            marked = self._differs(rule, plain, _with_marks(self._profile, plain, _FIELDS), self._texts)
            if not marked or self._differs(rule, plain, _with_marks(self._profile, plain, _FIELDS), {}):
                continue
            guilty = [
                field
                for field in _FIELDS
                if self._differs(rule, plain, _with_marks(self._profile, plain, (field,)), self._texts)
            ]
            names = ", ".join(f"config.{field}" for field in guilty or _FIELDS[:1])
            self._faults[
                f"A {model}: the value of {names} could end its setting and begin another. Write it where the shipped "
                "text does: inside quotes or element text, never as a name."
            ] = None
            return

    def _differs(self, rule: FileRule, plain: PhoneConfig, marked: PhoneConfig, texts: Mapping[str, str]) -> bool:
        """Whether the two files have other settings by name."""
        first, second = self._rendered(rule, plain, texts), self._rendered(rule, marked, texts)
        if not isinstance(first, str) or not isinstance(second, str):
            return isinstance(first, str)
        return _names_in(self._profile, first) != _names_in(self._profile, second)


# --- Samples --------------------------------------------------------------------------------------------------------

_FIELDS = (
    "label", "admin_password", "lines.label", "lines.display_name", "lines.auth_user", "lines.secret",
    "function_keys.label",
)  # fmt: skip


def sample_config(profile: Profile, model: str) -> PhoneConfig:
    """A made-up phone of that model with two lines, a proxy, a VLAN and a key: most branches of a template show."""
    lines = tuple(
        LineConfig(
            number=number, key=number, label=f"10{number}", display_name=f"{_PLAIN} {number}", sip_user=f"10{number}",
            auth_user=f"10{number}", secret=_PLAIN, registrar_host="pbx.example.net", registrar_port=5060,
            transport="udp", outbound_proxy_host="sbc.example.net" if number == 1 else "",
        )
        for number in range(1, min(profile.models[model].lines, 2) + 1)
    )  # fmt: skip
    return PhoneConfig(
        mac=f"{min(profile.ouis, default='020000')}000001", model=model, label=_PLAIN, lines=lines,
        max_lines=profile.models[model].lines, admin_password=_PLAIN, ntp_server="pool.ntp.org",
        zone=zone_rule("America/New_York"), provisioning_url=SAMPLE_URL, vlan_id=20,
        function_keys=(FunctionKey(3, KeyKind.BLF, "102", _PLAIN, 1),),
    )  # fmt: skip


def _samples(profile: Profile, phones: Sequence[PhoneRecord]) -> list[Sample]:
    """One made-up phone of each template, then the account's own."""
    found = [_made_up(profile, model) for model in sample_models(profile)]
    for phone in phones:
        config = settings.phone_config(phone, profile, SAMPLE_URL)
        found.append(Sample(f"the phone {phone.label or phone.mac}", config))
    return found


def _of_other_models(profile: Profile) -> list[Sample]:
    """One made-up phone of each model that is no `sample_models`: a text may fail for one model alone, and the account
    may get such a phone tomorrow.
    """
    first = set(sample_models(profile))
    return [
        _made_up(profile, one.name)
        for one in profile.models.values()
        if one.template is not None and one.name not in first
    ]


def _made_up(profile: Profile, model: str) -> Sample:
    return Sample(f"a {model}", sample_config(profile, model))


def sample_models(profile: Profile) -> Iterator[str]:
    """One model of each model template, a tested one where there is one."""
    seen: set[str] = set()
    for model in sorted(profile.models.values(), key=lambda one: one.support is not Support.TESTED):
        if model.template is not None and model.template not in seen:
            seen.add(model.template)
            yield model.name


def own_rules(profile: Profile) -> list[FileRule]:
    """A phone's own files that are made from a template."""
    return _rules(profile, is_own=True)


def _rules(profile: Profile, *, is_own: bool) -> list[FileRule]:
    """The files that are made from a template: a phone's own, or those of every phone; one rule for each template."""
    found: dict[str, FileRule] = {}
    for rule in profile.files:
        if rule.template is not None and ("mac" in rule.pattern.groupindex) is is_own:
            found.setdefault(rule.template, rule)
    return list(found.values())


def _with_marks(profile: Profile, plain: PhoneConfig, fields: Sequence[str]) -> PhoneConfig:
    """The same phone with every mark that this vendor's format can hold in those values."""
    marked = profile.refused.sub("", _MARKED) if profile.refused is not None else _MARKED
    own: dict[str, Any] = {field: marked for field in fields if "." not in field}
    of_lines: dict[str, Any] = {field.partition(".")[2]: marked for field in fields if field.startswith("lines.")}
    of_keys: dict[str, Any] = {
        field.partition(".")[2]: marked for field in fields if field.startswith("function_keys.")
    }
    return replace(
        plain,
        lines=tuple(replace(line, **of_lines) for line in plain.lines),
        function_keys=tuple(replace(key, **of_keys) for key in plain.function_keys),
        **own,
    )


def _names_in(profile: Profile, text: str) -> object:
    """The settings of a file by name, in order: the elements and attributes of XML, else how each line begins. XML
    that cannot be read is unlike any other.
    """
    if profile.escape != "xml":
        return [_NAME_ENDS.split(line, maxsplit=1)[0] for line in text.split("\n")]
    try:
        root = ET.fromstring(text)  # noqa: S314  # made by us, without a document type: `override_proof.plain`
    except ET.ParseError:
        return object()
    return [(element.tag, sorted(element.attrib)) for element in root.iter()]
