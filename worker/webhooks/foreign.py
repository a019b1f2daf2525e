"""Results of workflow jobs that no run has started, such as those of every upload: rows of hourly runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime

from tagmill.worker.engine_config import FILESTACK_WORKFLOW, WORKFLOW_ID, engine_config, engine_version
from tagmill.worker.engines.workflow_results import answer_of
from tagmill.worker.errors import BadResponseError, WorkflowFailedError
from tagmill.worker.events import Event as Due
from tagmill.worker.models import HANDLE, Answer, Handle, ImageRef, Outcome, Status
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.store.base import Files
from tagmill.worker.store.event_runs import EventRuns
from tagmill.worker.store.plan import Planned
from tagmill.worker.store.quarantine import Quarantine, Quarantined
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.webhook_events import Event

_WORKFLOW_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ForeignResults:
    """Each Workflow has hourly runs of its own: their rows say by which configuration they were answered."""

    def __init__(self, files: Files, *, embedded: bool, now: Callable[[], datetime]) -> None:
        """`embedded`: no fleet works on them."""
        self._files, self._embedded, self._now = files, embedded, now
        self._quarantine = Quarantine(files)
        self._runs: dict[str, EventRuns] = {}  #: by workflow

    def add(self, results: Iterable[Event]) -> None:
        """Give each image a row, or set the result aside; once more changes nothing."""
        due: dict[str, list[Due]] = {}
        for result in results:
            found = _due(result)
            if isinstance(found, Due):
                due.setdefault(result.text["workflow"], []).append(found)
            else:
                self._set_aside(result, found)
        for workflow, images in due.items():
            self._runs_of(workflow).append(images)

    def _runs_of(self, workflow: str) -> EventRuns:
        if workflow not in self._runs:
            template = _template(workflow, embedded=self._embedded)
            name = f"workflow-{workflow[:8]}"
            self._runs[workflow] = EventRuns(self._files, template, name, clock=self._now)
        return self._runs[workflow]

    def _set_aside(self, result: Event, reason: str) -> None:
        name = hashlib.sha256(str(result.job).encode()).hexdigest()[:32]
        body = {"id": result.id, "action": result.action, "text": result.text}
        quarantined = Quarantined(result.endpoint, result.received_at, reason, body)
        self._quarantine.add(name, [quarantined], datetime.fromisoformat(result.received_at))


def _due(result: Event) -> Due | str:
    """Return why not, where it makes no row."""
    if not _WORKFLOW_ID.fullmatch(result.text["workflow"]):
        return "no_workflow"
    if not HANDLE.fullmatch(result.source):
        return "no_handle"
    try:
        answer = answer_of(result.text, None)
    except (WorkflowFailedError, BadResponseError):
        return "no_tags"
    if not isinstance(answer, Answer):
        return "not_finished"
    return Due(f"job {result.job}", _planned(result, answer))


def _planned(result: Event, answer: Answer) -> Planned:
    ref = ImageRef(Handle(result.source))
    options = {WORKFLOW_ID: result.text["workflow"]}
    config = engine_config(FILESTACK_WORKFLOW, None, None, options)
    context = RowContext("", 0, TagPolicy(), FILESTACK_WORKFLOW, engine_version(None), config)
    outcome = Outcome(Status.TAGGED, answer, tagged_at=result.received_at)
    return Planned(ref, build_row(context, 0, 0, ref, outcome))


def _template(workflow: str, *, embedded: bool) -> RunSpec:
    return RunSpec(
        run_id="",
        created_at="",
        source={"uri": "webhooks"},
        engine=FILESTACK_WORKFLOW,
        engine_options={WORKFLOW_ID: workflow},
        write_back=(),
        embedded=embedded,
        lane="events",
    )
