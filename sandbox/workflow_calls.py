"""`run_workflow` and `workflow_status`: https://stage.filestack.com/docs/api/workflows_api."""

from __future__ import annotations

from dataclasses import dataclass

from tagmill.sandbox.fault_replies import spoil
from tagmill.sandbox.faults import JOB, ODD_DATA, FaultRule
from tagmill.sandbox.jobs import Job, Jobs
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.replies import Refusal, Reply, invalid_parameter, json_reply, not_found, text_reply
from tagmill.sandbox.urls import Address, HandleSource, Source, Task
from tagmill.sandbox.workflows import Workflow


@dataclass(frozen=True, slots=True)
class WorkflowCalls:
    """What is refused starts nothing. What the service answers to an unknown id is not known."""

    parts: Parts
    jobs: Jobs

    def run(self, address: Address) -> Starting:
        """Raise Refusal."""
        workflow = self.jobs.workflows.get(_only_parameter(address, "id"))
        if workflow is None:
            raise Refusal(invalid_parameter("id", "run_workflow"))
        source = address.source
        known = self.parts.config.load or not isinstance(source, HandleSource)
        if not known and self.parts.files.get(source.name) is None:
            raise Refusal(not_found())
        return Starting(self.jobs, workflow, source)

    def status(self, address: Address) -> Watching:
        """Raise Refusal."""
        job = self.jobs.get(_only_parameter(address, "job_id"))
        if job is None:
            raise Refusal(not_found())
        return Watching(job)


@dataclass(frozen=True, slots=True)
class Starting:
    """A request that starts a job each time it is made."""

    jobs: Jobs
    workflow: Workflow
    source: Source

    async def answer(self, rule: FaultRule | None) -> tuple[Reply, bool]:
        of_job = rule.fault if rule and rule.fault in JOB | ODD_DATA else None
        job = self.jobs.start(self.workflow, self.source, of_job)
        return _told(job, rule), True

    def replaced(self, reply: Reply) -> None:
        """No job is started."""


@dataclass(frozen=True, slots=True)
class Watching:
    job: Job

    async def answer(self, rule: FaultRule | None) -> tuple[Reply, bool]:
        return _told(self.job, rule), False

    def replaced(self, reply: Reply) -> None:
        """The job does not care."""


def _told(job: Job, rule: FaultRule | None) -> Reply:
    reply = json_reply(200, job.to_json())
    return spoil(rule.fault, reply) if rule else reply


def _only_parameter(address: Address, name: str) -> str:
    task: Task = address.tasks[-1]
    if len(address.tasks) > 1:
        raise Refusal(text_reply(400, f"the sandbox takes no other task beside `{task.name}`"))
    if task.params.keys() != {name}:
        raise Refusal(invalid_parameter(min(task.params.keys() - {name}, default=name), task.name))
    return task.params[name]
