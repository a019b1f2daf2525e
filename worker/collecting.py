"""What became of a chunk's workflow jobs: heard by webhook, or asked for when it is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from tagmill.worker.addresses import names
from tagmill.worker.admission import Admission
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import (
    BadResponseError,
    EngineUnreachableError,
    PermanentError,
    RetryableError,
    ThrottledError,
    WorkflowFailedError,
    WorkflowTimeoutError,
)
from tagmill.worker.models import Answer, Json, Outcome, Pending
from tagmill.worker.outcomes import failed, tagged
from tagmill.worker.state.entries import Job
from tagmill.worker.state.journal import Journal
from tagmill.worker.waiting import Waiting
from tagmill.worker.workflow_jobs import WorkflowJobs

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS, POLL_GROWTH = 3.0, 30.0, 1.5
PATIENCE = 2  #: deadlines after which a job is given up even if the service could not be asked
TRIES = 3  #: for a permit that nobody else wants, before the chunk waits elsewhere
LONGEST_WAIT_SECONDS = 2.0  #: for such a permit
SHORTEST_PARK_SECONDS = 1.0

log = structlog.get_logger()


class Collecting:
    """Of one chunk's lanes."""

    def __init__(
        self,
        kit: Equipment,
        journal: Journal,
        admission: Admission,
        waiting: Waiting,
        *,
        sleep: Callable[[float], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        """`now`: Unix seconds."""
        self._kit, self._journal, self._admission = kit, journal, admission
        self._waiting, self._sleep, self._now = waiting, sleep, now
        self._told: Mapping[str, Json] = {}
        self._permits = asyncio.Lock()
        self._crowded = False  #: others want every permit there is

    @property
    def _jobs(self) -> WorkflowJobs:
        assert self._kit.jobs is not None  # noqa: S101 - there are jobs, so the engine starts them
        return self._kit.jobs

    async def listen(self) -> int:
        """Take in what webhooks have told so far, and return of how many jobs.

        Say for whom to listen where that may not be known.
        """
        chunk, persist = self._journal.chunk, self._waiting.persist
        self._told = await persist(lambda: self._jobs.hints.delivered(chunk))
        await persist(partial(self.register, only_nameless=not self._journal.recovered))
        return len(self._told)

    async def register(self, *, only_nameless: bool = False) -> None:
        """Say which jobs are waited for. Raise `RedisUnavailableError`."""
        for index, job in self._journal.jobs().items():
            if job.id is None or not only_nameless:
                await self._jobs.register(job, self._journal.chunk, index)

    async def outcome(self, index: int, job: Job, image_id: str) -> Outcome | None:
        """Return None while the job goes on; its end is journaled before anything else happens to it.

        Raise what `Admission` raises, or a `RunError`.
        """
        try:
            answer = await self._answer(index, job, image_id)
        except (WorkflowFailedError, WorkflowTimeoutError) as error:
            return await self._settled(index, failed(error))
        if answer is None:
            return None
        answer = replace(answer, latency_ms=round((self._now() - job.since) * 1000))
        return await self._settled(index, tagged(answer, job.transfer, job.behind))

    async def _answer(self, index: int, job: Job, image_id: str) -> Answer | None:
        if (answer := self._heard(job)) is not None or self._now() < self._due_at(job):
            return answer
        return await (self._find(job) if job.id is None else self._ask(index, job, job.id, image_id))

    async def _settled(self, index: int, outcome: Outcome) -> Outcome:
        await self._waiting.persist(lambda: self._journal.settle(index, outcome.to_json()))
        return outcome

    def wait_seconds(self) -> float | None:
        """Return how long nothing is due; None when no image waits."""
        due = [self._due_at(job) for job in self._journal.jobs().values()]
        return max(min(due) - self._now(), SHORTEST_PARK_SECONDS) if due else None

    # --- by webhook ---------------------------------------------------------------------------------------

    def _heard(self, job: Job) -> Answer | None:
        told = self._told.get(job.id or "") or self._told_by_source(job)
        return None if told is None else self._read(told)

    def _told_by_source(self, job: Job) -> Json | None:
        """Of a job of that workflow and source, unless both have an id."""
        about = (
            told
            for told in self._told.values()
            if told.get("workflow") == self._jobs.workflow_id and _is_about(told, job.source)
        )
        return next((told for told in about if not (job.id and told.get("jobid"))), None)

    def _read(self, told: Json) -> Answer | None:
        """Return None for what tells of no end."""
        try:
            found = self._jobs.engine.read(told)
        except BadResponseError as error:
            log.warning("webhook_not_understood", error=str(error))
            return None
        return found if isinstance(found, Answer) else None

    async def _find(self, job: Job) -> Answer | None:
        """At its deadline: what was told of a job whose id nobody knows."""
        told = await self._jobs.find(job.source, job.since)
        if told is None or (answer := self._read(told)) is None:
            raise self._timeout("the service did not tell its id, and no webhook told of it")
        return answer

    # --- by asking ----------------------------------------------------------------------------------------

    async def _ask(self, index: int, job: Job, job_id: str, image_id: str) -> Answer | None:
        """Ask with a permit that nobody else wants; the last time, wait for one as any call does."""
        over = self._late(job, 1)
        if over:
            await self._admission.turn()
        elif not await self._spare():
            return None
        found = await self._poll(job_id, image_id)
        if isinstance(found, Answer):
            return found
        if over and (found is not None or self._late(job, PATIENCE)):
            raise self._timeout("it had not ended by then")
        await self._waiting.persist(lambda: self._journal.polled(index, self._later(job)))
        return None

    async def _poll(self, job_id: str, image_id: str) -> Answer | Pending | None:
        """Return None when the service cannot tell now. What it does not know goes on, as far as is known."""
        kit, persist = self._kit, self._waiting.persist
        try:
            found = await self._jobs.engine.collect(job_id)
        except ThrottledError as error:
            retry_after = error.retry_after
            await persist(lambda: kit.limiter.throttled(retry_after))
            return None
        except RetryableError as error:
            unreachable = isinstance(error, EngineUnreachableError)
            await persist(lambda: kit.breaker.failed(image_id, unreachable))
            return None
        except WorkflowFailedError:
            raise
        except PermanentError as error:
            log.info("job_not_known", job=job_id, code=error.code)
            return Pending(job_id)
        await persist(kit.breaker.succeeded)
        return found

    async def _spare(self) -> bool:
        """Look out for a permit a few times, one lane after the other."""
        async with self._permits:
            for _ in range(TRIES):
                if self._crowded or not await self._admission.open_now():
                    return False
                wait = await self._waiting.while_running(self._kit.limiter.spare)
                if not wait:
                    return True
                self._crowded = wait > LONGEST_WAIT_SECONDS
                await self._waiting.while_running(partial(self._sleep, min(wait, LONGEST_WAIT_SECONDS)))
            self._crowded = True
        return False

    def _due_at(self, job: Job) -> float:
        """What has no id cannot be asked for, only looked for at the end."""
        return job.since + self._jobs.deadline_seconds if job.id is None else job.poll_at

    def _later(self, job: Job) -> Job:
        """The job after another poll."""
        pause = min(FIRST_POLL_SECONDS * POLL_GROWTH ** (job.polls + 1), LONGEST_POLL_SECONDS)
        deadline = job.since + self._jobs.deadline_seconds
        next_poll = self._now() + pause
        poll_at = deadline if self._now() < deadline < next_poll else next_poll
        return replace(job, polls=job.polls + 1, poll_at=poll_at)

    def _late(self, job: Job, deadlines: int) -> bool:
        return self._now() >= job.since + deadlines * self._jobs.deadline_seconds

    def _timeout(self, why: str) -> WorkflowTimeoutError:
        seconds = self._jobs.deadline_seconds
        return WorkflowTimeoutError(f"nothing came of the workflow job within {seconds:g} s: {why}")


def _is_about(told: Json, source: str) -> bool:
    """Whether it is that source alone."""
    sources: list[Any] = told.get("sources") or []
    return len(sources) == 1 and source in names(str(sources[0]))
