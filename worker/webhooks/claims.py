"""Which workflow jobs runs have started, as the run store tells: what Redis forgets of them is there."""

from __future__ import annotations

from tagmill.worker.addresses import bare
from tagmill.worker.engine_config import FILESTACK_WORKFLOW, WORKFLOW_ID
from tagmill.worker.errors import ConfigError
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.started import unread_entries
from tagmill.worker.store.webhook_events import Event


class Claims:
    """Reads each file once."""

    def __init__(self, files: Files) -> None:
        self._files, self._runs = files, Runs(files)
        self._workflows: dict[str, str | None] = {}  #: run -> the Workflow that answers it, if one does
        self._read: dict[tuple[str, int], set[str]] = {}  #: run and pass -> files
        self._ids: set[str] = set()
        self._sources: set[tuple[str, str]] = set()  #: workflow, source
        self._without_id: set[tuple[str, str]] = set()  #: those of them whose job's id nobody knows

    def look(self) -> None:
        """Take in what was begun since the last look."""
        for run_id in self._runs.ids():
            if (workflow := self._workflow_of(run_id)) is not None:
                for number in range(Passes(self._files, run_id).count()):
                    self._look_into(run_id, number, workflow)

    def hold(self, event: Event) -> bool:
        """Whether a run started that job, or may have: an id was not told, now or at its start."""
        of_source, job_id = (str(event.text["workflow"]), event.source), event.text.get("jobid")
        return str(job_id) in self._ids or of_source in (self._without_id if job_id else self._sources)

    def _workflow_of(self, run_id: str) -> str | None:
        if run_id not in self._workflows:
            try:
                spec = self._runs.read(run_id)
            except ConfigError:  # it is just being made, or a newer Tagmill made it
                return None
            is_one = spec.engine == FILESTACK_WORKFLOW and spec.open_until is None
            self._workflows[run_id] = str(spec.engine_options[WORKFLOW_ID]) if is_one else None
        return self._workflows[run_id]

    def _look_into(self, run_id: str, number: int, workflow: str) -> None:
        read = self._read.setdefault((run_id, number), set())
        for name, entries in unread_entries(self._files, run_id, number, frozenset(read)):
            for job in (entry["job"] for entry in entries if entry.get("job")):
                of_source = (workflow, bare(job["source"]))
                self._sources.add(of_source)
                if job["id"] is None:
                    self._without_id.add(of_source)
                else:
                    self._ids.add(job["id"])
            read.add(name)
