"""What a phone is served when its file cannot be made: an account's own template that breaks never takes its phones
away.

A name that the phone's format cannot hold takes no file away: it is written with the nearest characters that can be.
Otherwise, in this order: the last good bytes of that very file, where they are still in memory; the file of the newest
earlier version of the account's templates that can be made and is proven for this phone; the file of the shipped
templates, without the account's own; nothing (503), and the phone keeps what it has. Whichever it is, the fetch log
notes a failed fetch with the reason, and the phone counts as failed until its file can be made again. What stands in is
kept like any file, so that a broken template costs one attempt for each revision and not one for each request.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from multidict import CIMultiDict

from engine.errors import DatabaseAway, EngineError, UnsafeValue
from engine.provisioning import render
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.kept import Kept
from engine.provisioning.render import PhoneConfig
from engine.provisioning.vendors import Profile

MAX_SENTENCE = 300


async def made(
    attempt: Callable[[Mapping[str, str]], Awaitable[Kept | None]],
    overrides: Mapping[str, str],
    last: Kept | None,
    revision: int,
    earlier: Callable[[], Awaitable[Sequence[Mapping[str, str]]]],
) -> Kept | None:
    """The file, or what stands in for it.

    Args:
        attempt: Makes the file with those templates in place of the shipped ones; None: there is nothing to serve.
        last: What was last kept of this very file, at whichever revision.
        earlier: The account's templates as they were published before, the newest first; asked only when needed.

    Raises:
        EngineError, ValueError: why it cannot be made, when nothing can stand in. DatabaseAway: as it says.
    """
    try:
        return await attempt(overrides)
    except DatabaseAway:
        raise
    except (EngineError, ValueError, RecursionError) as exc:
        error = exc
    sentence, reason = str(error)[:MAX_SENTENCE], type(error).__name__
    if last is not None and not last.is_instead:
        return replace(
            last, revision=revision, audiences={}, headers=CIMultiDict(last.headers), fault=sentence, reason=reason
        )
    for texts in (*await earlier(), {}) if overrides else ():
        try:
            instead = await attempt(texts)
        except DatabaseAway:
            raise
        except (EngineError, ValueError, RecursionError):
            continue
        if instead is not None:
            instead.fault, instead.reason, instead.is_instead = sentence, reason, True
            return instead
    raise error if isinstance(error, EngineError | ValueError) else ValueError(sentence)


def fitting(profile: Profile, config: PhoneConfig) -> tuple[PhoneConfig, str]:
    """The phone's values with names its format can hold, and what was wrong with them as they are ("": nothing)."""
    told = render.fitted(config, profile.refused)
    if told is config:
        return config, ""
    try:
        render.refuse_unsafe(config, profile.refused)
    except UnsafeValue as exc:
        return told, f"{exc} Until then the phone shows the nearest character it takes."
    return told, ""


def marked(kept: Kept, fault: str) -> Kept:
    """A file whose texts were fitted, with the reason, so that its fetches raise the alarm ("": as it should be)."""
    if fault:
        kept.fault, kept.reason, kept.is_instead = fault[:MAX_SENTENCE], UnsafeValue.__name__, True
    return kept


def noted(fetch: Fetch, kept: Kept) -> Fetch:
    """The event of serving what is kept: a failed one, saying why, when it stands in for something else."""
    if not kept.fault:
        return fetch
    return fetch._replace(kind=FetchKind.FAILED, reason=kept.reason, evidence=(kept.fault,), revision=None)
