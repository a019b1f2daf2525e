"""Runs of an hour whose images become due one by one, told by several writers at once.

The plan of such a run is a log. Every shard goes to the next free number by create-if-absent, and so does the
empty last shard that seals the log: what stands before it counts, and nothing can follow it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import structlog

from tagmill.worker.errors import ConfigError
from tagmill.worker.events import Event, Recent, Verdict, newest_of_each, record_of
from tagmill.worker.models import Json, Place
from tagmill.worker.rows import again
from tagmill.worker.store.base import Files
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Runs, RunSpec, is_run_id

EVENTS = "events-"  #: begins the ids of such runs
HOUR = timedelta(hours=1)
SEAL_AFTER = timedelta(seconds=30)  #: the end of the hour: writers' clocks differ
CHUNK_SIZE = 25  #: images: small, so that several processes share a burst
READERS = 16  #: threads: a store far away answers slowly

log = structlog.get_logger()


def event_run_id(name: str, hour: datetime) -> str:
    return f"{EVENTS}{name}-{hour:%Y%m%d}t{hour:%H}z"


def is_over(spec: RunSpec, now: datetime) -> bool:
    """Whether its log is to be sealed; never of a run that one producer plans."""
    return spec.open_until is not None and now >= datetime.fromisoformat(spec.open_until) + SEAL_AFTER


@dataclass(frozen=True, slots=True)
class Appended:
    run_id: str  #: of the hour at hand
    verdicts: Counter[Verdict]  #: of the events; of several of one name the newest alone is told of


class EventRuns:
    """One writer's way to the runs of one name; not to be shared between threads."""

    def __init__(
        self,
        files: Files,
        template: RunSpec,
        name: str,
        *,
        prepare: Callable[[str], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`template`: each hour's specification but for its id and times. `prepare`: before a run is made.

        Raise `ConfigError` for a name that makes no run id.
        """
        self._files, self._runs, self._template, self._name = files, Runs(files), template, name
        self._prepare, self._clock = prepare, clock
        self._hour = _hour_of(clock())
        if not is_run_id(event_run_id(name, self._hour)):
            raise ConfigError(f"the name {name!r} of hourly runs: use a few of a-z, 0-9 and -")
        self._recent = Recent()
        self._log: EventLog | None = None
        self.made = ""  #: the run that surely exists

    def append(self, events: Sequence[Event]) -> Appended:
        """Put images into the log. When it returns, each new one stands there for good, exactly once.

        What the logs of this hour and the last one tell already is left out, whoever wrote it. Raise
        `RunStoreUnavailableError`: call again with the same.
        """
        self._hour = max(self._hour, _hour_of(self._clock()))
        while True:
            now, hour_log = self._clock(), self._read_log()
            judged = [(event, self._recent.judge(event, now)) for event in newest_of_each(events)]
            new = [event for event, verdict in judged if verdict is Verdict.NEW]
            if hour_log.sealed:
                self._hour += HOUR
            elif not new or self._write(hour_log, new, now):
                return Appended(hour_log.run_id, Counter(verdict for _, verdict in judged))

    def _write(self, hour_log: EventLog, new: Sequence[Event], now: datetime) -> bool:
        if self.made != hour_log.run_id:
            self._make_run()
        record = record_of(new, now)
        written = hour_log.append(new, record)
        if written:
            self._recent.note(record)
        return written

    def _read_log(self) -> EventLog:
        """Return the hour's log, having taken in what others appended since the last look."""
        run_id = event_run_id(self._name, self._hour)
        if self._log is None or self._log.run_id != run_id:
            self._end_log_before_hour()
            self._log = EventLog(self._files, run_id, self._template.chunk_size or CHUNK_SIZE)
        for record in self._log.read_on():
            self._recent.note(record)
        return self._log

    def _end_log_before_hour(self) -> None:
        """Read and seal the newest earlier log: whoever is about to append there must come here and read.

        Who began to make its run may have died: a log without a run would never come to its end.
        """
        hours = (_hour_in(id_, self._name) for id_ in self._runs.ids())
        earlier = max((hour for hour in hours if hour is not None and hour < self._hour), default=None)
        if earlier is not None:
            self._create(spec := self._spec_of(earlier))
            for record in EventLog(self._files, spec.run_id).seal():
                self._recent.note(record)

    def _make_run(self) -> None:
        """Make the hour's run unless it is there, perhaps by a writer that was told otherwise."""
        self._create(spec := self._spec_of(self._hour))
        there = self._runs.read(spec.run_id)
        if _frozen(there) != _frozen(spec):
            log.warning("event_run_has_other_settings", run_id=spec.run_id, until=spec.open_until)
        self.made = spec.run_id

    def _create(self, spec: RunSpec) -> None:
        if self._runs.is_free(spec.run_id):
            self._prepare(spec.run_id)
            self._runs.create(spec)

    def _spec_of(self, hour: datetime) -> RunSpec:
        return dataclasses.replace(
            self._template,
            run_id=event_run_id(self._name, hour),
            created_at=self._clock().isoformat(),
            open_until=(hour + HOUR).isoformat(),
        )


class EventLog:
    """The plan of one run. There are no holes between its shards: who has read the newest knows all."""

    def __init__(self, files: Files, run_id: str, chunk_size: int = CHUNK_SIZE) -> None:
        self.run_id = run_id
        self._plan, self._chunk_size = Plan(files, run_id, 0), chunk_size
        self._newest: ShardHeader | None = None  #: all up to it were read

    @property
    def sealed(self) -> bool:
        """Whether the last shard was read."""
        return self._newest is not None and self._newest.last

    def read_on(self) -> Iterator[Json]:
        """Yield the records of the shards that others appended since the last look."""
        if self.sealed:
            return
        beyond = self._plan.shards(after=self._newest.shard if self._newest else -1)
        with ThreadPoolExecutor(READERS) as readers:
            for header in readers.map(self._plan.header, beyond):
                self._newest = header
                yield header.cursor

    def append(self, events: Sequence[Event], record: Json) -> bool:
        """Return False when another writer was faster: read on, and try again unless the log is sealed."""
        return self._write(events, record)

    def seal(self) -> list[Json]:
        """End the log, unless it is ended, and with it the planning of its run; return what was read on."""
        records = list(self.read_on())
        while not self.sealed and not self._write([], {}, last=True):
            records += self.read_on()
        assert self._newest is not None  # noqa: S101 - the last one
        self._plan.finish(PlanSummary(self._newest.shard + 1, self._newest.first, self._newest.listed, {}))
        return records

    def _write(self, events: Sequence[Event], record: Json, *, last: bool = False) -> bool:
        before = self._newest
        planned = before.first + before.count if before else 0
        header = ShardHeader(
            shard=before.shard + 1 if before else 0,
            count=len(events),
            first=planned,
            chunk_size=self._chunk_size,
            cursor=record,
            listed=planned + len(events),
            last=last,
        )
        images = [self._placed(event.image, (header.shard, index)) for index, event in enumerate(events)]
        if not self._plan.write(header, images):
            return False
        self._newest = header
        return True

    def _placed(self, image: Planned, place: Place) -> Planned:
        """Return an image that comes with its answer as one that has it here, at no cost."""
        if image.row is None:
            return image
        return Planned(image.ref, again(image.row, image.ref, self.run_id, place))


def _frozen(spec: RunSpec) -> bytes:
    """What two settings that are the same have in common."""
    return orjson.dumps(dataclasses.replace(spec, created_at=""))


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _hour_in(run_id: str, name: str) -> datetime | None:
    """The hour of one of the runs of that name; None: it is another run."""
    with contextlib.suppress(ValueError):
        hour = datetime.strptime(run_id, f"{EVENTS}{name}-%Y%m%dt%Hz").replace(tzinfo=UTC)
        return hour if run_id == event_run_id(name, hour) else None
    return None
