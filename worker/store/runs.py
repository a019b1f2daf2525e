"""Runs: their frozen specification and their control files."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO

import orjson

from tagmill.worker.engine_config import engine_config
from tagmill.worker.errors import ConfigError, NotFoundError, WriteBackSafetyError
from tagmill.worker.models import Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import RUNS, pass_folder, run_folder
from tagmill.worker.task_list import TASKS, TaskList

FORMAT = 1  #: version of everything below `runs/<run_id>`
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,63}")
NAMED_RUNS = 5  #: in the answer to an unknown run id
_NUMBER_WIDTH = 6
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RunSpec:
    """`run.json`: what the user asked for, frozen; no secrets."""

    run_id: str
    created_at: str  #: RFC 3339, UTC
    source: Json  #: the producer's; workers do not read it
    engine: str
    write_back: tuple[str, ...]
    rate: str | None = None  #: the run's own cap beside the account's rate
    transfer: str = "auto"
    keep_uploads: bool = False
    tags_version: int | None = None  #: of the service's vocabulary; None: its own choice
    resize: int | None = None  #: height in pixels that the service shrinks images to
    engine_options: Json = field(
        default_factory=dict
    )  #: what else its answers depend on, in the engine's words
    policy: Json = field(default_factory=dict)
    shard_size: int = 10_000
    chunk_size: int | None = None
    embedded: bool = True  #: worked on by servers of its own, not by a fleet
    planned_rate: float = 1.0  #: calls/s that chunk sizes are made for
    max_calls: int | None = None
    max_cost: str | None = None  #: decimal, in the currency of the price
    price_per_1000: str | None = None  #: decimal, of 1,000 calls
    max_duration: float | None = None  #: seconds from each start, or lift from a pause, to the next pause
    concurrency: int | None = None  #: calls in flight per process; None: each worker's own
    max_failure_rate: float = 100.0  #: percent
    failure_sample: int = 200  #: images that the rate is taken over, at least
    consent: Json = field(default_factory=dict)  #: effect of the write-back -> how it was allowed
    warnings: list[str] = field(default_factory=list)  #: what is done otherwise than usual; for people
    format: int = FORMAT
    force: bool = False  #: ask also for what an earlier run has tagged
    sidecar_prefix: str | None = None  #: of S3 images' sidecars; None: beside them
    filestack_buckets: tuple[str, ...] = ()  #: where write-back reaches the objects behind handles
    dedupe: str = "off"  #: or `exact`: what has equal content is asked for once
    job_seconds: float | None = None  #: that workflow jobs are expected to take; None: there are none
    job_deadline: float = 900.0  #: seconds after which their images have failed
    planned: bool = False  #: by `tagmill plan`; what was settled at its start is in `start.json`
    mode: str = "all"  #: or `missing`, `changed`: which images of the source are planned
    retag_before: str | None = None  #: what was answered before is asked for again; RFC 3339
    state: Json = field(
        default_factory=dict
    )  #: the source's, by `name`, and its number `base`; {}: it has none
    lane: str = "backfill"  #: the queue of its chunks
    open_until: str | None = None  #: RFC 3339: several writers plan it until then; None: one producer does

    @property
    def engine_config(self) -> str:
        """As its rows have it."""
        return engine_config(self.engine, self.tags_version, self.resize, self.engine_options)

    @property
    def is_incremental(self) -> bool:
        """Whether an earlier run over the source left a state, beside which it is planned."""
        return bool(self.state.get("base"))

    @property
    def tasks(self) -> TaskList | None:
        """The pipeline that each image is asked for; None: a single task."""
        return TaskList.from_json(self.engine_options[TASKS]) if TASKS in self.engine_options else None

    @property
    def calls_per_image(self) -> tuple[int, int]:
        """At least and at most, retries aside."""
        return (1, 1) if self.tasks is None else (self.tasks.unconditional, len(self.tasks.tasks))

    @property
    def deduplicates(self) -> bool:
        return self.dedupe != "off"


class Verb(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Control:
    """The newest control file; `n` 0 says that there is none and the run goes on.

    Each file says all that holds: what its writer left out stands in it as it stood in the one before.
    """

    n: int = 0
    verb: Verb = Verb.RESUME
    reason: str | None = None  #: why it is paused, such as `credentials`
    message: str | None = None
    by: str = ""
    at: str = ""
    cancelled: int | None = None  #: passes up to this one are cancelled, for good
    since: str = ""  #: when the run was last started anew or lifted from a pause; empty: never
    max_calls: int | None = None  #: this and what follows stand in for the specification's, unless None
    max_cost: str | None = None
    max_duration: float | None = None
    max_failure_rate: float | None = None
    rate: str | None = None
    concurrency: int | None = None
    rate_at: str = ""  #: when `rate` was set; empty: never

    @property
    def running(self) -> bool:
        return self.verb is Verb.RESUME

    def of(self, pass_no: int) -> Verb:
        """Return what it says to that pass; what is cancelled stays so, whatever is said of later passes."""
        over = self.cancelled is not None and pass_no <= self.cancelled
        return Verb.CANCEL if over else self.verb

    def to_json(self) -> Json:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Control:
        return cls(**{**value, "verb": Verb(value["verb"])})


PLANNED = "planned"  #: why a run is paused that was planned and not started
#: What a control may change.
CAPS = ("max_calls", "max_cost", "max_duration", "max_failure_rate", "rate", "concurrency")


def effective(spec: RunSpec, control: Control) -> RunSpec:
    """Return the specification with all that was changed since, by the newest control."""
    changed = {name: value for name in CAPS if (value := getattr(control, name)) is not None}
    return dataclasses.replace(spec, **changed)


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


class Runs:
    def __init__(self, files: Files) -> None:
        self.files = files

    def is_free(self, run_id: str) -> bool:
        """Return whether a run of that id may be created; raise `ConfigError` for what is no id."""
        if not is_run_id(run_id):
            raise ConfigError(f"run id {run_id!r}: use 3 to 64 of a-z, 0-9 and -, not - first")
        return not self.files.exists(f"{run_folder(run_id)}/run.json")

    def create(self, spec: RunSpec) -> bool:
        """Return False when a run of that id exists."""
        if not self.is_free(spec.run_id):
            return False
        tagging = {"kind": "tag", "policy": spec.policy, "inputs": []}
        self.files.create(f"{pass_folder(spec.run_id, 0)}/pass.json", orjson.dumps(tagging))
        return self.files.create(
            f"{run_folder(spec.run_id)}/run.json",
            orjson.dumps(dataclasses.asdict(spec), option=orjson.OPT_INDENT_2),
        )

    def read(self, run_id: str) -> RunSpec:
        """Raise `NotFoundError`; `ConfigError` for a run that a newer Tagmill wrote."""
        if not is_run_id(run_id):
            raise NotFoundError(f"no run {run_id!r} in {self.files.location}{self._some_ids()}")
        try:
            value: dict[str, Any] = orjson.loads(self.files.read(f"{run_folder(run_id)}/run.json"))
        except FileNotFoundError:
            raise NotFoundError(f"no run {run_id} in {self.files.location}{self._some_ids()}") from None
        if value.get("format", 0) > FORMAT:
            raise ConfigError(
                f"run {run_id} was written by a newer Tagmill (format {value['format']}); upgrade"
            )
        for name in ("write_back", "filestack_buckets"):
            value[name] = tuple(value.get(name, ()))
        value |= self._start(run_id) if value.get("planned") else {}
        return RunSpec(**value)

    def start(self, spec: RunSpec) -> None:
        """Keep what was settled when a planned run was started; the first start counts."""
        settled = {name: getattr(spec, name) for name in ("created_at", "consent", "warnings")}
        self.files.create(f"{run_folder(spec.run_id)}/start.json", orjson.dumps(settled))

    def _start(self, run_id: str) -> dict[str, Any]:
        """{} before."""
        with contextlib.suppress(FileNotFoundError):
            value: dict[str, Any] = orjson.loads(self.files.read(f"{run_folder(run_id)}/start.json"))
            return value
        return {}

    def _some_ids(self) -> str:
        ids = list(self.ids())
        more = f" and {len(ids) - NAMED_RUNS} more" if len(ids) > NAMED_RUNS else ""
        return f": there are {', '.join(ids[-NAMED_RUNS:])}{more}" if ids else ", which holds no runs"

    def ids(self) -> Iterator[str]:
        """Run ids in name order."""
        return self.files.folders(RUNS)

    def control(self, run_id: str, after: int = 0) -> Control:
        """Return the newest control whose number is at least `after`."""
        folder = f"{run_folder(run_id)}/control"
        newest = max(self.files.names(folder, f"{after - 1:0{_NUMBER_WIDTH}d}.json"), default=None)
        if newest is None:
            return Control()
        value = orjson.loads(self.files.read(f"{folder}/{newest}"))
        return Control.from_json(value | {"n": int(newest.removesuffix(".json"))})

    def set_control(self, run_id: str, control: Control) -> Control:
        """Write the next control file; what it leaves out stays as it was."""
        return self.change(run_id, lambda before: _after(before, control))

    def change(self, run_id: str, following: Callable[[Control], Control]) -> Control:
        """Write the control that follows the newest one, whoever else writes at the same time."""
        while True:
            before = self.control(run_id)
            control = dataclasses.replace(following(before), n=before.n + 1)
            value = control.to_json()
            name = f"{run_folder(run_id)}/control/{value.pop('n'):0{_NUMBER_WIDTH}d}.json"
            if self.files.create(name, orjson.dumps(value)):
                return control

    def pause(self, run_id: str, control: Control, seen: Control | None = None) -> Control:
        """Pause a run that goes on; return the control that holds now, which may be another's.

        `seen`: what is newer was not known to whoever found a reason to pause; then the run goes on. That a
        write-back did harm is said in any case, and also of a run that pauses already, or whoever lifts that
        pause would not know.
        """
        newest = self.control(run_id)
        does_harm = control.reason == WriteBackSafetyError.code
        if seen is not None and newest.n != seen.n and not does_harm:
            return newest
        is_news = does_harm and newest.reason != control.reason
        heeded = newest.running or (is_news and newest.verb is Verb.PAUSE)
        return self.set_control(run_id, control) if heeded else newest

    def copy_input(self, run_id: str, name: str, stream: BinaryIO) -> None:
        """Copy a list of any length into the run."""
        blocks = iter(lambda: stream.read(_BLOCK_BYTES), b"")
        self.files.replace(f"{run_folder(run_id)}/input/{name}", blocks)

    def open_input(self, run_id: str, name: str) -> BinaryIO:
        """Return a seekable stream."""
        return self.files.open(f"{run_folder(run_id)}/input/{name}")

    def keep_input(self, run_id: str, name: str, data: bytes) -> None:
        """Copy what cannot be read again into the run."""
        self.files.create(f"{run_folder(run_id)}/input/{name}", data)

    def read_input(self, run_id: str, name: str) -> bytes:
        return self.files.read(f"{run_folder(run_id)}/input/{name}")


def _after(before: Control, control: Control) -> Control:
    """Complete a control by what it leaves as it was."""
    lifted = control.running and not before.running
    since = control.since or (control.at if lifted else before.since)
    rate_at = control.rate_at or before.rate_at
    kept = {name: getattr(before, name) for name in (*CAPS, "cancelled") if getattr(control, name) is None}
    return dataclasses.replace(control, since=since, rate_at=rate_at, **kept)
