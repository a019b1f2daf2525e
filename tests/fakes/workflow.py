"""A service whose answers come from jobs, which end when a test says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fakes.scripted import ScriptedEngine

from tagmill.worker.engines.base import Locator
from tagmill.worker.engines.workflow_results import answer_of
from tagmill.worker.models import Answer, Json, Pending

WORKFLOW = "11111111-2222-4333-8444-555555555555"


@dataclass
class WorkflowEngine(ScriptedEngine):
    """Jobs are named after their image: `job-handle0000`, and `job-handle0000-2` if there is a second one."""

    started: Counter[str] = field(default_factory=Counter)  #: by locator value
    ended: dict[str, Json] = field(default_factory=dict)  #: what is told of jobs that ended
    polls: Counter[str] = field(default_factory=Counter)
    poll_failures: list[Exception] = field(default_factory=list)
    nameless: bool = False  #: starts are answered without an id

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer | Pending:  # type: ignore[override]  # its answers come later
        await super().start(locator, so_far)
        self.started[locator.value] += 1
        return Pending(None if self.nameless else job_of(locator.value, self.started[locator.value]))

    async def collect(self, job_id: str) -> Answer | Pending:
        self.polls[job_id] += 1
        if self.poll_failures:
            raise self.poll_failures.pop(0)
        return self.read(self.ended[job_id]) if job_id in self.ended else Pending(job_id)

    def read(self, told: Json) -> Answer | Pending:
        return answer_of(told, None)

    def end(self, *values: str) -> None:
        """Let the first jobs of these images end with tags."""
        self.ended |= {job_of(value): told(value) for value in values}


def job_of(value: str, number: int = 1) -> str:
    return f"job-{value}" if number == 1 else f"job-{value}-{number}"


def told(value: str, **fields: object) -> Json:
    """What a webhook tells of an image's job."""
    data = {"tags": {"auto": {value: 97}, "user": None}}
    results = {"tags_1": {"data": data}}
    job = {"workflow": WORKFLOW, "jobid": job_of(value), "sources": [value], "status": "Finished"}
    return job | {"results": results} | fields
