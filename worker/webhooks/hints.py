"""Results on their way to the chunk that waits for them: hints, as whoever waits also asks."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.state.jobs import Jobs, Waiting, nameless
from tagmill.worker.store.webhook_events import WORKFLOW, Event

MOST = 10_000  #: events that wait for Redis; more are not told of
WAITS = "hints_not_given"  #: log event

log = structlog.get_logger()


class Hints:
    def __init__(self, jobs: Jobs | None) -> None:
        """`jobs` None: there is no Redis to tell it to."""
        self._jobs = jobs
        self._queue: asyncio.Queue[Event] = asyncio.Queue(MOST)
        self._complaints = Complaints()

    def put(self, event: Event) -> None:
        """Tell of a result soon; of any other event there is nobody to tell."""
        if self._jobs is not None and event.action == WORKFLOW:
            with contextlib.suppress(asyncio.QueueFull):
                self._queue.put_nowait(event)

    async def give(self) -> None:
        """Tell of one result after the other, for ever; return at once without a Redis."""
        while self._jobs is not None:
            event = await self._queue.get()
            try:
                await hand_over(self._jobs, event)
                self._complaints.forget(WAITS)
            except RedisUnavailableError as error:
                self._complaints.say(WAITS, error)
            except Exception:
                log.exception("hint_failed", job=event.job)
            finally:
                self._queue.task_done()


async def hand_over(jobs: Jobs, event: Event) -> bool:
    """Tell the chunk that waits for that result; return whether one does. Raise `RedisUnavailableError`."""
    waiting = await jobs.find(str(event.job)) or await _by_source(jobs, event)
    if waiting is not None:
        await jobs.deliver(waiting.chunk, str(event.job), event.text)
    return waiting is not None


async def _by_source(jobs: Jobs, event: Event) -> Waiting | None:
    """Whoever waits for a job of that workflow and source, unless both have an id, and another one."""
    waiting = None
    for source in event.sources:
        waiting = waiting or await jobs.find(nameless(str(event.text["workflow"]), source))
    both_named = waiting is not None and waiting.job_id is not None and event.text.get("jobid")
    return None if both_named else waiting
