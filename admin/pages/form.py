"""What the forms of pages share: what was typed, what was wrong with it, and showing a refused form again.

Theory of operation. A handler that takes a form says first which page shows it (`request[FORM] = …`) and then calls one
operation. When that refuses, the transaction is rolled back and `pages_entry.render_error` shows the same page once
more, with everything typed and every fault beside its field. So no handler catches anything.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web
from multidict import MultiDictProxy

from admin import bad_fields, merged_form
from admin.context import ACCOUNT, SESSION
from admin.stale import versions_since, who_changed
from engine.errors import EngineError, FieldFault, Invalid, Stale

Post = MultiDictProxy[str | bytes | bytearray | web.FileField]
FormPage = Callable[[web.Request, EngineError | None], Awaitable[web.StreamResponse]]
MOST_OF_FAULT = 1_000  # characters
FORM: web.RequestKey[FormPage] = web.RequestKey("form", Callable)  # type: ignore[arg-type]  # a callable has no class


class Versioned(Protocol):
    """A row that counts its changes."""

    @property
    def id(self) -> Any: ...

    @property
    def version(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class NoRow:
    """What a form was made of while there was nothing stored."""

    id: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it is shown: values by field name, what is wrong in general, and what is wrong with each field."""

    values: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""
    fields: tuple[FieldFault, ...] = ()
    shown: str = ""  # what the fields hold when they are first shown, for the form's hidden field
    version: str = ""  # of the row that this was; empty: of the row as it is

    def value(self, name: str) -> str:
        """The field's text; a list is one entry a line."""
        value = self.values.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence):
            return "\n".join(str(item) for item in value)
        return "" if value is None else str(value)

    def checked(self, name: str, value: str = "on") -> bool:
        """Whether that box is ticked: a truth value, or a member of a list of names."""
        found = self.values.get(name)
        if isinstance(found, list | tuple):
            return value in found
        return found is True or found == value

    def faults(self, name: str) -> list[str]:
        """What is wrong with a field, or with one part of it (`sources.0`, `carrier_ids.bandwidth`)."""
        return [
            _cut(_told_of(fault, name)) for fault in self.fields if fault.field == name or _is_inside(fault.field, name)
        ]

    @property
    def stray(self) -> list[str]:
        """Faults of fields that this form does not show."""
        shown = set(self.values)
        return [
            _cut(f"{fault.field}: {fault.detail}")
            for fault in self.fields
            if not any(fault.field == name or _is_inside(fault.field, name) for name in shown)
        ]


def _is_inside(path: str, name: str) -> bool:
    return path.startswith((f"{name}.", f"{name}["))


def _told_of(fault: FieldFault, name: str) -> str:
    """A fault beside its field, with the part of it where its own words do not say: `Line 2, position: expected …`"""
    first, *rest = fault.field.removeprefix(name).strip(".[]").replace("[", ".").split(".")
    if first.isdigit() and rest:
        return f"Line {int(first) + 1}, {' '.join(rest)}: {fault.detail}"
    if first and not first.isdigit():
        return f"{'.'.join([first, *rest])}: {fault.detail}"
    return fault.detail[:1].upper() + fault.detail[1:]


def _cut(text: str) -> str:
    """A fault may quote what was typed, however long that is."""
    return text if len(text) <= MOST_OF_FAULT else f"{text[:MOST_OF_FAULT]}…"


async def form_of(
    request: web.Request,
    values: Mapping[str, Any],
    error: EngineError | None,
    *,
    lists: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    kind: str = "",
) -> Form:
    """The form to show: `values` of the row (or of an empty form), over them what was typed when it was refused.

    Args:
        lists: Fields with more than one box: all ticked ones count, and none ticked is an empty list.
        labels: What people call fields that this form alone has.
        kind: What the record is, for the words of its fields (`admin.field_words`).
    """
    if error is None:
        return Form(values, shown=merged_form.packed(values))
    post = await request.post()
    shown = await shown_of(request)
    if isinstance(error, Stale) and shown is not None:
        sent = {**_sent(post, values), **{name: _all(post, name) for name in lists}}
        found = merged_form.merge(shown, sent, values, labels, kind=kind)
        return _merged(values, found, error)
    if shown is None and not any(name in values for name in post):  # another form of the page, such as a button's
        return Form(values, sentence_of(error), _faults_of(error), shown=merged_form.packed(values))
    typed = {name: str(text) for name, text in post.items() if name in values}
    typed_lists = {name: _all(post, name) for name in lists}
    unticked = {name: False for name, value in values.items() if isinstance(value, bool) and name not in post}
    fields = _faults_of(error)
    detail = "Nothing was saved yet. Look at the marked fields." if fields else sentence_of(error)
    is_as_sent = shown is not None and not isinstance(error, Stale)
    return Form(
        {**values, **typed, **unticked, **typed_lists}, detail, fields,
        shown=merged_form.packed(shown if shown is not None and is_as_sent else values),
        version=str(post.get("version", "")) if is_as_sent else "",
    )  # fmt: skip


def _faults_of(error: EngineError) -> tuple[FieldFault, ...]:
    return error.fields if isinstance(error, Invalid) else ()


def _all(post: Post, name: str) -> list[str]:
    return [str(text) for text in post.getall(name, [])]


def _sent(post: Post, values: Mapping[str, Any]) -> dict[str, merged_form.Held]:
    """The fields of the form as they were sent; a box that is not ticked sends nothing."""
    texts: dict[str, merged_form.Held] = {name: str(text) for name, text in post.items() if name in values}
    return texts | {name: name in post for name, value in values.items() if isinstance(value, bool)}


def _merged(values: Mapping[str, Any], found: merged_form.Merged, error: Stale) -> Form:
    """The form with what either changed, made of the row as it is now: saving it once more is no older window's."""
    detail = f"{error.detail} {merged_form.sentence_of(found)}"
    return Form({**values, **found.values}, detail, found.faults, shown=merged_form.packed(values))


async def shown_of(request: web.Request) -> dict[str, merged_form.Held] | None:
    """What the fields held when the form was shown; None: it does not say."""
    return merged_form.unpacked(await typed(request, "shown"))


def sentence_of(error: EngineError) -> str:
    return error.detail if error.http_status != 500 else "Something went wrong on the server; the log has the details."


def refusal_of(error: EngineError | None) -> str:
    """The refusal with every fault, where a list's form for many rows has no place beside its fields."""
    if error is None:
        return ""
    fields = error.fields if isinstance(error, Invalid) else ()
    faults = [fault.detail[:1].upper() + fault.detail[1:] for fault in fields if fault.detail not in error.detail]
    return " ".join([error.detail if fields else sentence_of(error), *faults])


async def texts_sent(request: web.Request, names: Collection[str]) -> dict[str, str]:
    """What was sent of those fields."""
    return {name: str(text) for name, text in (await request.post()).items() if name in names}


async def ticked(request: web.Request, name: str) -> frozenset[str]:
    """The rows of a list that were ticked."""
    return frozenset(str(text) for text in (await request.post()).getall(name, []))


async def typed(request: web.Request, name: str) -> str:
    """One field of the posted form, without the space around it, and without NUL: nobody types it, and PostgreSQL takes
    none.
    """
    value = (await request.post()).get(name, "")
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


async def lines_typed(request: web.Request, name: str) -> list[str]:
    """A field of one entry a line; commas part entries too."""
    return merged_form.entries_of(await typed(request, name))


async def whole_number(request: web.Request, name: str, default: int) -> int:
    """A field that holds a whole number; the default when it is empty, or when the form is refused for it anyway.

    Raises:
        Invalid: it holds something else, and this is no place to note it (`admin.bad_fields`).
    """
    text = await typed(request, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        bad_fields.note(request, [FieldFault(name, f"Expected a whole number, got {text[:60]!r}.")])
        return default
    return int(text)


async def refuse_stale(request: web.Request, row: Versioned, field_name: str = "version") -> None:
    """Refuse a form that was filled in before somebody else changed the row.

    Args:
        field_name: The field that says which version the form was made of.
    Raises:
        Stale: the page is shown again with what was typed, and with the other's changes where the form says what it
            held before (`parts.seen`); sending it once more takes it as it stands.
    """
    seen = await typed(request, field_name)
    if seen and seen != str(row.version):
        shown = await shown_of(request)
        told = await who_changed(
            request[SESSION], request[ACCOUNT], row.id, since=getattr(row, "updated_at", None),
            fields=_edited(await request.post(), shown or {}),
            versions=versions_since(seen, row.version),
        )  # fmt: skip
        said = f"Somebody else changed this while you were typing. {told}".rstrip()
        if shown is None:
            said += " Nothing was done. See how it stands now, and do it once more if it is still right."
        raise Stale(said)


def _edited(post: Post, shown: Mapping[str, merged_form.Held]) -> set[str]:
    """The fields that whoever sent the form had changed in it, an address as a whole (`civic_address`)."""
    found = set()
    for name, held in shown.items():
        text = "\n".join(held) if isinstance(held, list) else held
        sent = post.get(name)
        if isinstance(text, str) and isinstance(sent, str) and sent.replace("\r\n", "\n").strip() != text:
            found.add(name.partition(".")[0])
    return found


@contextmanager
def gathered(faults: list[FieldFault]) -> Iterator[None]:
    """Keep the bad fields that the operation inside reports, so that a form of several operations tells all at once.

    `refuse` must follow: until then nothing that was to be made inside can be used.
    """
    try:
        yield
    except Invalid as error:
        if not error.fields:
            raise
        faults += error.fields


@contextmanager
def told_together() -> Iterator[list[FieldFault]]:
    """Refuse once, behind all that is read inside: what stands in `gathered` with the list given, what is added to it,
    and what the last operation inside reports by itself.

    Raises:
        Invalid: every bad field. Nothing that was read inside can be used then.
    """
    faults: list[FieldFault] = []
    with gathered(faults):
        yield faults
    refuse(faults)


def refuse(faults: Sequence[FieldFault]) -> None:
    """Raise `Invalid` with all of them, when there are any."""
    if faults:
        raise Invalid("Some fields cannot be accepted.", fields=tuple(faults))


def see_other(address: str, done: str = "", fragment: str = "") -> web.Response:
    """Send the browser on after a form did its work (303): reloading does not repeat it."""
    if done:
        address += f"{'&' if '?' in address else '?'}done={done}"
    return web.Response(status=303, headers={"Location": address + (f"#{fragment}" if fragment else "")})
