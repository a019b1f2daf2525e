"""A pipeline's surroundings: what a worker has for a chunk, with a fake service and a real Redis."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fakes.engine import FakeEngine
from fakes.files import MemoryFiles
from fakes.limiter import FakeLimiter
from fakes.runs import a_spec, planned
from fakes.scripted import ScriptedEngine
from fakes.sink import FakeSink
from redis.asyncio import Redis

from tagmill.worker.budget import Budget, Cap
from tagmill.worker.equipment import Equipment
from tagmill.worker.history import History
from tagmill.worker.models import Chunk, Handle, ImageRef, Outcome
from tagmill.worker.pipeline import Pipeline, Result
from tagmill.worker.policy import TagPolicy
from tagmill.worker.retry import RetryBudget
from tagmill.worker.state.breaker import Breaker
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.denials import Denials
from tagmill.worker.state.entries import Entry
from tagmill.worker.state.journal import Journal
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.started import Started
from tagmill.worker.tagger import Tagger
from tagmill.worker.transfer import Transfers
from tagmill.worker.undoing import Undoing
from tagmill.worker.workflow_jobs import WorkflowJobs
from tagmill.worker.writeback import WriteBack

CHUNK = Chunk("run-1", 0, 0, 0, 100)
NEVER = float("inf")
WITHIN_SECONDS = 10.0  #: a pipeline that hangs fails its test
prefixes = map("pipeline-{}".format, itertools.count())


class Unjittered:
    """Chance that always draws the same: retries come at once, or after a told time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def uniform(self, _low: float, _high: float) -> float:
        return self.seconds


@dataclass
class Rig:
    """A pipeline's surroundings, kept from one worker to the next."""

    redis: Redis
    engine: FakeEngine = field(default_factory=ScriptedEngine)
    sink: FakeSink | None = None
    limiter: FakeLimiter = field(default_factory=FakeLimiter)
    lanes: int = 4
    policy: TagPolicy = field(default_factory=TagPolicy)
    keep_uploads: bool = False
    probe_seconds: float = 0.01
    spec: RunSpec = field(default_factory=lambda: a_spec("run-1"))
    files: MemoryFiles = field(default_factory=MemoryFiles)
    caps: list[Cap] = field(default_factory=list)
    retry_budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.0))
    clock: Callable[[], float] | None = None
    sleep: Callable[[float], Any] = asyncio.sleep
    give_up_at: float = NEVER
    force: bool = False
    jobs: WorkflowJobs | None = None
    now: Callable[[], float] = time.time
    kind: PassKind = PassKind.TAG
    chunk: Chunk = CHUNK
    keys: Keys = field(default_factory=lambda: Keys(next(prefixes)))
    settled: list[int] = field(default_factory=list)  #: indexes in the order of their outcomes

    @property
    def scripted(self) -> ScriptedEngine:
        return cast(ScriptedEngine, self.engine)

    @functools.cached_property
    def breaker(self) -> Breaker:
        return Breaker(self.redis, self.keys, "account", probe_seconds=self.probe_seconds)

    def equipment(self) -> Equipment:
        write_back = WriteBack([self.sink] if self.sink else [], sleep=self.sleep)
        return Equipment(
            run_id="run-1",
            policy=self.policy,
            kind=self.kind,
            tagger=Tagger(self.engine, Transfers(), keep_uploads=self.keep_uploads),
            write_back=write_back,
            undoing=Undoing(write_back, History(MemoryFiles())),
            limiter=cast(Limiter, self.limiter),
            breaker=self.breaker,
            denials=Denials(self.redis, self.keys, "run-1"),
            budget=Budget(self.spec, Runs(self.files), self.caps, OpenGrants(self.redis, self.keys)),
            retry_budget=self.retry_budget,
            lanes=self.lanes,
            jobs=self.jobs,
            force=self.force,
        )

    def started(self) -> Started:
        return Started(self.files, self.chunk)

    def journal(self) -> Journal:
        return Journal(self.redis, self.keys, self.chunk, self.started())

    def pipeline(self, journal: Journal | None = None, *, jitter: float = 0.0) -> Pipeline:
        """The next worker's."""
        clock = {"clock": self.clock} if self.clock else {}
        pipeline = Pipeline(
            self.equipment(),
            journal or self.journal(),
            settled=self._settled,
            give_up_at=self.give_up_at,
            sleep=self.sleep,
            now=self.now,
            **clock,
        )
        pipeline._random = cast(Any, Unjittered(jitter))
        return pipeline

    async def run(self, refs: Sequence[ImageRef], *, jitter: float = 0.0) -> Result:
        return await asyncio.wait_for(self.pipeline(jitter=jitter).run(planned(refs)), WITHIN_SECONDS)

    async def entries(self) -> dict[int, Entry]:
        """What the journal says, read as the next worker does."""
        return await self.journal().load()

    async def in_flight(self) -> list[int]:
        return [index for index, entry in (await self.entries()).items() if entry.in_flight]

    def _settled(self, index: int, _: Outcome) -> None:
        self.settled.append(index)


def handles(count: int) -> list[ImageRef]:
    return [ImageRef(Handle(f"handle{number:04}")) for number in range(count)]


def value(index: int) -> str:
    """Of the locator of `handles(…)[index]`."""
    return f"handle{index:04}"


def totals(result: Result) -> tuple[int, int, int]:
    """Calls, those of unknown fate, attempts."""
    outcomes = result.outcomes.values()
    return (
        sum(outcome.calls for outcome in outcomes),
        sum(outcome.maybe_charged for outcome in outcomes),
        sum(outcome.attempts for outcome in outcomes),
    )
