"""Workflow jobs: https://stage.filestack.com/docs/api/workflows_api. They live in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tagmill.sandbox.answers import Answer
from tagmill.sandbox.background import Background
from tagmill.sandbox.deliveries import Deliveries
from tagmill.sandbox.fault_replies import bend
from tagmill.sandbox.faults import Fault
from tagmill.sandbox.intelligence import Intelligence
from tagmill.sandbox.replies import Refusal
from tagmill.sandbox.urls import HandleSource, Source
from tagmill.sandbox.webhooks import Json
from tagmill.sandbox.workflows import Step, Workflow

STARTED, FINISHED, FAILED = "Started", "Finished", "Failed"
OLD_FAILED = "failed"  #: as example clients spell it
TTL_SECONDS = 172_800  #: how long results are kept, as it is said to clients; seen in documentation
MOST_JOBS = 100_000  #: the oldest is forgotten


@dataclass(slots=True)
class Job:
    workflow: Workflow
    source: Source
    created: float
    updated: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = STARTED
    results: Json | None = None  #: by step, once it has ended

    def to_json(self) -> Json:
        """As a run response has it; an external URL stands there without a signature."""
        job = {
            "workflow": self.workflow.id,
            "jobid": self.id,
            "sources": [self.source.name],
            "status": self.status,
            "createdAt": _rfc3339(self.created),
            "updatedAt": _rfc3339(self.updated),
        }
        return job if self.results is None else {**job, "results": self.results, "ttl": TTL_SECONDS}


class Jobs:
    def __init__(
        self,
        workflows: Mapping[str, Workflow],
        intelligence: Intelligence,
        deliveries: Deliveries,
        background: Background,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`workflows`: by id."""
        self.workflows = workflows
        self._intelligence, self._deliveries, self._background = intelligence, deliveries, background
        self._clock, self._sleep = clock, sleep
        self._jobs: dict[str, Job] = {}

    def start(self, workflow: Workflow, source: Source, fault: Fault | None = None) -> Job:
        """Return a job that has just started."""
        job = Job(workflow, source, self._clock(), self._clock())
        self._jobs[job.id] = job
        if len(self._jobs) > MOST_JOBS:
            del self._jobs[next(iter(self._jobs))]
        self._background.start(self._run(job, fault))
        return job

    def start_by_upload(self, handle: str) -> list[Job]:
        wanted = [workflow for workflow in self.workflows.values() if workflow.on_upload]
        return [self.start(workflow, HandleSource(handle)) for workflow in wanted]

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def states(self) -> Counter[str]:
        return Counter(job.status for job in self._jobs.values())

    async def _run(self, job: Job, fault: Fault | None) -> None:
        pause = job.workflow.seconds / (len(job.workflow.progress) + 1)
        for word in job.workflow.progress:
            await self._sleep(pause)
            self._turn(job, word)
        await self._sleep(pause)
        if fault is not Fault.JOB_STUCK:
            await self._end(job, fault)
            self._deliveries.emit("fs.workflow", job.source.name, job.to_json())

    async def _end(self, job: Job, fault: Fault | None) -> None:
        results = {} if fault is Fault.JOB_FAILED else await self._results(job, fault)
        succeeded = any("data" in result for result in results.values())
        job.results = results
        self._turn(job, FINISHED if succeeded else OLD_FAILED if fault is Fault.JOB_FAILED else FAILED)

    async def _results(self, job: Job, fault: Fault | None) -> Json:
        results: Json = {}
        for step in job.workflow.steps:
            if step.runs(results):
                results[step.name] = await self._result(job.source, step, fault)
        return results

    async def _result(self, source: Source, step: Step, fault: Fault | None) -> Json:
        """How a task that failed is shown is not documented; without `data`, and the others stay."""
        try:
            data: Answer = await self._intelligence.answer(source, step.task)
        except Refusal as refusal:
            return {"error": refusal.text}
        return {"data": bend(fault, data)}

    def _turn(self, job: Job, word: str) -> None:
        job.status, job.updated = word, self._clock()


def _rfc3339(seconds: float) -> str:
    """With nine decimals, as the service writes it: https://stage.filestack.com/docs/api/workflows_api."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{int(seconds % 1 * 1e9):09d}Z"
