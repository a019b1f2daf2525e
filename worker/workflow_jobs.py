"""What a worker process hears of workflow jobs: by asking, by webhook through Redis, or in stored events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from tagmill.worker.engines.base import Collector
from tagmill.worker.models import Chunk, Json
from tagmill.worker.state.entries import Job
from tagmill.worker.state.jobs import Jobs, nameless
from tagmill.worker.store.base import Files
from tagmill.worker.store.webhook_events import find_result


@dataclass(frozen=True, slots=True)
class WorkflowJobs:
    """Of one run."""

    engine: Collector
    hints: Jobs
    files: Files
    workflow_id: str
    deadline_seconds: float  #: from a job's start to the end of waiting for it

    async def register(self, job: Job, chunk: Chunk, index: int) -> None:
        """Say which image waits for the job, by what those who hear of it know it by."""
        await self.hints.register(job.id, nameless(self.workflow_id, job.source), chunk, index)

    async def find(self, source: str, since: float) -> Json | None:
        """Look through the stored webhook events for what was told of a job whose id is not known."""
        start = datetime.fromtimestamp(since, UTC)
        return await asyncio.to_thread(find_result, self.files, self.workflow_id, [source], start)
