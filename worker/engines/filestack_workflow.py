"""Filestack Workflows: one GET starts a job, its answer comes by webhook or when the job is asked for.

https://stage.filestack.com/docs/api/workflows_api
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import httpx

from tagmill.worker.engine_config import TASK_NAME, WORKFLOW_ID
from tagmill.worker.engines.base import Locator
from tagmill.worker.engines.exchange import Reply
from tagmill.worker.engines.filestack_answers import decoded
from tagmill.worker.engines.filestack_policy import SignedPolicy
from tagmill.worker.engines.filestack_service import FilestackOptions, FilestackService, OnLimit
from tagmill.worker.engines.filestack_urls import Task
from tagmill.worker.engines.workflow_results import answer_of, job_id_of
from tagmill.worker.errors import (
    AnswerLostError,
    BadResponseError,
    EngineUnavailableError,
    EngineUnreachableError,
    ItemError,
    RetryableError,
    WorkflowFailedError,
)
from tagmill.worker.models import Answer, Json, Pending

CALLS = ("convert", "runWorkflow")  #: what a policy must allow


class FilestackWorkflowEngine(FilestackService):
    def __init__(
        self,
        options: FilestackOptions,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        on_limit: OnLimit | None = None,
    ) -> None:
        super().__init__(options, transport=transport, on_limit=on_limit)
        self._task_name = options.config.get(TASK_NAME)
        self._run: Task = ("run_workflow", {"id": options.config[WORKFLOW_ID]})

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer | Pending:  # noqa: ARG002 - the protocol's
        """Start a job. Raise `AnswerLostError` where that may have happened all the same."""
        signed = self._policies.allowing(*CALLS)
        unheld = replace(locator, fresh=False)  # no cache answers for a job
        try:
            reply = await self._exchange.get(self._cdn, self._targets.of(unheld, signed.task, self._run))
        except EngineUnreachableError:
            raise
        except EngineUnavailableError as error:
            raise _lost(error) from None
        told = self._told(reply, signed)
        await self._report_limit(reply)
        return self._started(told, reply)

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Without a job there is no answer."""
        return None

    async def collect(self, job_id: str) -> Answer | Pending:
        signed = self._policies.allowing(*CALLS)
        target = self._targets.alone(signed.task, ("workflow_status", {"job_id": job_id}))
        reply = await self._exchange.get(self._cdn, target, billable=False)
        if not reply.ok:
            raise self._error(reply, signed)
        try:
            found = self.read(_job(reply))
        except BadResponseError as unread:
            raise self._error(reply, signed, unread=str(unread)) from None
        return replace(found, http_status=reply.status) if isinstance(found, Answer) else found

    def read(self, told: Json) -> Answer | Pending:
        return answer_of(told, self._task_name)

    def _told(self, reply: Reply, signed: SignedPolicy) -> Json:
        """Return what the service says of the job that it started."""
        if not reply.ok:
            error = self._error(reply, signed)
            raise _lost(error) if _may_have_started(reply, error) else error
        try:
            return _job(reply)
        except BadResponseError as unread:
            raise _lost(self._error(reply, signed, unread=str(unread))) from None

    def _started(self, told: Json, reply: Reply) -> Answer | Pending:
        """Usually the job has only begun; a call it was in any case."""
        try:
            found = self.read(told)
        except WorkflowFailedError as error:
            error.calls, error.http_status = 1, reply.status
            raise
        except BadResponseError:
            return Pending(job_id_of(told))
        if isinstance(found, Pending):
            return found
        return replace(found, http_status=reply.status, latency_ms=reply.latency_ms, calls=1)


def _job(reply: Reply) -> Json:
    """Raise `BadResponseError` for what tells of no job."""
    told, _ = decoded(reply.body)
    if not isinstance(told, dict) or told.keys().isdisjoint({"jobid", "status", "results"}):
        raise BadResponseError("no workflow job")
    return told


def _may_have_started(reply: Reply, error: Exception) -> bool:
    """Refusals are clear, throttling is; another error of the server says nothing of what it did before."""
    failing = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    refused = reply.status == HTTPStatus.SERVICE_UNAVAILABLE or not isinstance(error, RetryableError)
    return failing and not refused


def _lost(error: Exception) -> AnswerLostError:
    assert isinstance(error, ItemError)  # noqa: S101 - an answer that is no refusal of the account
    return AnswerLostError(
        f"whether the workflow job was started is not known: {error}",
        http_status=error.http_status,
        calls=1,
        maybe_charged=1,
        latency_ms=error.latency_ms,
    )
