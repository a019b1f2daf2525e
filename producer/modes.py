"""Which images of a source a run plans, and which state of the source it continues."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.inventory_reports import undated
from tagmill.producer.sources.quantities import rfc3339
from tagmill.producer.sources.spec import STDIN, SourceSpec
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import canonical_hash
from tagmill.worker.store.base import Files
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.states import NO_STATE, States

TRIAL = "sandbox"  #: engine whose tags are no reason to leave an image alone when it is asked for in earnest
SLUG_CHARACTERS = 40
_NOT_OF_THE_SOURCE = {"limit", "sample", "seed", "of_bucket", "all_versions"}
LONGEST_AGE = 100 * 366 * 86_400.0  #: seconds


class Mode(StrEnum):
    ALL = "all"  #: every image
    CHANGED = "changed"  #: what has no tags, or tags that do not hold any more
    MISSING = "missing"  #: what has no tags


def check_mode(source: SourceSpec, mode: str | None, retag_older_than: float | None) -> None:
    """Raise `ConfigError` for what cannot be meant."""
    if mode is not None and mode not in set(Mode):
        raise ConfigError(f"--mode: {mode!r} is none: use {', '.join(Mode)}")
    if retag_older_than is not None and retag_older_than > LONGEST_AGE:
        raise ConfigError("--retag-older-than: nothing is that old; write an age such as 90d")
    if retag_older_than is not None and mode == Mode.MISSING:
        raise ConfigError("--retag-older-than is about images that have tags: not with --mode missing")
    if (mode in {Mode.CHANGED, Mode.MISSING} or retag_older_than is not None) and (why := _stateless(source)):
        raise ConfigError(f"{why}: no --mode but all, and no --retag-older-than")


class Wanted(Protocol):
    """What is said of it for one run."""

    @property
    def mode(self) -> str | None: ...
    @property
    def retag_older_than(self) -> float | None: ...


def against_state(files: Files, spec: RunSpec, source: SourceSpec, wanted: Wanted) -> RunSpec:
    """Freeze the state that the run continues, and its mode."""
    if _stateless(source):
        return spec
    name = state_name(source, spec.engine)
    base = States(files, name).newest()
    usual = Mode.ALL if base == NO_STATE or spec.force else Mode.CHANGED
    now = datetime.fromisoformat(spec.created_at)
    before = rfc3339(now - timedelta(seconds=wanted.retag_older_than)) if wanted.retag_older_than else None
    state = {"name": name, "base": base}
    return dataclasses.replace(spec, mode=str(wanted.mode or usual), retag_before=before, state=state)


def state_name(source: SourceSpec, engine: str) -> str:
    """Readable, and the same for the same selection of a source; trials have states of their own."""
    selection = {name: value for name, value in source.to_json().items() if name not in _NOT_OF_THE_SOURCE}
    selection["uri"] = undated(source.uri)
    chosen = canonical_hash({**_in_order(selection), "trial": engine == TRIAL})
    slug = re.sub(r"[^A-Za-z0-9]+", "-", selection["uri"].removeprefix("file://")).strip("-")[
        -SLUG_CHARACTERS:
    ]
    return f"{slug.strip('-').lower()}-{chosen}".removeprefix("-")


def _in_order(selection: Mapping[str, Any]) -> dict[str, Any]:
    """Several globs or extensions mean the same in any order."""
    filters = {
        name: sorted(value) if isinstance(value, tuple) else value
        for name, value in selection["filters"].items()
    }
    return {**selection, "filters": filters}


def _stateless(source: SourceSpec) -> str | None:
    """Return why nothing is kept of a source from run to run; None: it is."""
    if source.limit is not None or source.sample is not None:
        return "--limit and --sample take a part of the source, of which nothing is kept from run to run"
    if source.all_versions:
        return "--all-versions takes what is and what was, and nothing is kept of that from run to run"
    if source.uri == STDIN:
        return "a list on stdin has no name by which the next run would know it: write it to a file"
    if source.input is not None and source.input.format is ListFormat.MANIFEST:
        return "a manifest names the images of a run, not a source that changes"
    return None
