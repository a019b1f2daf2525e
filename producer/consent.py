"""What a write-back does to a bucket beside writing tags: said before the run starts, and agreed to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator

from tagmill.producer.preflight import Preflight
from tagmill.producer.sources.s3_listing import PAGE_SIZE
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json

CANARIES = "the first 100 images, and 1 in 100 of all others, are read in full before and after that"
AN_IMAGE = "2 HEAD and 1 COPY an image"  #: one HEAD may save the call
QUESTIONS = {"new_versions": "Add these versions?", "copy_events": "Fire these events?"}
Ask = Callable[[str], bool]  #: a question on a terminal
Effect = tuple[str, str]  #: what is to be allowed, such as `new_versions`, and what happens in plain words


def effects(found: Preflight) -> Iterator[Effect]:
    """What a rewrite does that is paid for or heard of. What cannot be read is not guessed to be harmless."""
    place = f"s3://{found.bucket}"
    if found.versioned is None:
        yield "new_versions", f"it cannot be read whether {place} keeps a version of each rewritten image"
    elif found.versioned:
        yield "new_versions", f"{place} keeps versions: each rewritten image becomes one more, paid for, too"
    if found.listeners is None:
        yield "copy_events", f"it cannot be read who hears of ObjectCreated:Copy in {place}"
    elif found.listeners:
        yield "copy_events", f"ObjectCreated:Copy in {place} is heard by {', '.join(found.listeners)}"


def refuse(effect: Effect) -> ConfigError:
    """Make the one line for who cannot be asked, or said no."""
    name, what = effect
    return ConfigError(f"{what}: say {flag(name)}, or --write-back tags, annotation or sidecar")


def consented(wanted: Iterable[Effect], allowed: Collection[str], ask: Ask) -> Json:
    """Return how each effect was allowed. Raise `ConfigError` for one that is not."""
    given: Json = {}
    for name, what in wanted:
        if name not in allowed and name not in given and not ask(QUESTIONS[name]):
            raise refuse((name, what))
        given[name] = flag(name) if name in allowed else "asked"
    return given


def describe(found: Preflight, at_most: int | None, *, listed: bool = True) -> Iterator[str]:
    """What metadata in one bucket costs and brings about, a line each; `listed`: the images are there."""
    requests = _requests(found.objects, at_most) if listed else AN_IMAGE
    yield f"metadata in s3://{found.bucket}: {requests}"
    yield CANARIES
    yield from (what for _, what in effects(found))
    for storage_class, count in found.clocks.items():
        yield f"{count} of the first objects are {storage_class}, whose clock starts again with a rewrite"
    for rule in found.lifecycle or ():
        yield f"lifecycle rule {rule} counts its days from the rewrite"
    for replica in found.replicas or ():
        yield f"each rewritten image is replicated to s3://{replica}"


def tag_notes(found: Preflight) -> Iterator[str]:
    """What a bucket does by object tags that are ours, and what could not be read of it."""
    for rule in found.tag_rules or ():
        yield f"{rule} of s3://{found.bucket} looks at tags that Tagmill writes"
    if found.unreadable:
        yield f"not readable in s3://{found.bucket}: {', '.join(found.unreadable)}"


def _requests(objects: int | None, at_most: int | None) -> str:
    each = f"{AN_IMAGE}, 1 LIST for {PAGE_SIZE:,} objects"
    images = min((number for number in (objects, at_most) if number is not None), default=None)
    if images is None:
        return each
    lists = "" if objects is None else f", {math.ceil(objects / PAGE_SIZE)} LIST"
    return f"{each}; at most {2 * images:,} HEAD, {images:,} COPY{lists} for {images:,} images"


def flag(effect: str) -> str:
    return "--allow-" + effect.replace("_", "-")
