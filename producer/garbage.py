"""What of a run store nobody needs any more, and why the rest is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tagmill.producer.past_webhooks import past_webhooks
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import (
    ACCOUNTS,
    RUNS,
    account_folder,
    pass_folder,
    run_folder,
    state_folder,
)
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import Runs, RunSpec, Verb
from tagmill.worker.store.states import States, known_sources
from tagmill.worker.store.undo import UndoValues

SCRATCH_AGE = timedelta(days=1)  #: a probe or a write takes seconds, a clock may be late
DEFAULT_STATES = ("completed", "cancelled")
STATES = (*DEFAULT_STATES, "paused")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One run as it stands."""

    run_id: str
    state: str  #: completed, cancelled, paused, running, or remnant: without `run.json` before its end
    since: datetime | None  #: when it came to that; None where nobody can tell


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs may go."""

    before: datetime  #: in their state since then or longer
    states: Collection[str] = DEFAULT_STATES
    undo_only: bool = False  #: only the values that an undo needs; the run stays


@dataclass(slots=True)
class Garbage:
    """What would be deleted; nothing is, until `delete`."""

    runs: list[Candidate] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)  #: by run: images that have theirs there
    undo: list[str] = field(default_factory=list)  #: folders of former values
    grants: list[str] = field(default_factory=list)  #: folders, of days and months that are over
    states: list[str] = field(default_factory=list)  #: folders, that newer ones replaced
    webhooks: list[str] = field(default_factory=list)  #: folders, of days whose events nobody needs
    scratch: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)  #: run -> why, of those old enough

    def to_json(self, *, deleted: bool) -> Json:
        return {
            "schema": SCHEMA,
            "deleted": deleted,
            "runs": [
                {
                    "run_id": run.run_id,
                    "state": run.state,
                    "since": run.since and run.since.isoformat(),
                    "answers": self.answers[run.run_id],
                }
                for run in self.runs
            ],
            "undo": self.undo,
            "grants": self.grants,
            "states": self.states,
            "webhooks": self.webhooks,
            "scratch": self.scratch,
            "kept": [{"run_id": run_id, "reason": reason} for run_id, reason in self.kept.items()],
        }

    def describe(self) -> str:
        lines = [self._describe_run(run) for run in self.runs]
        lines += [f"undo values {folder}" for folder in self.undo]
        lines += [f"grants {folder}" for folder in self.grants]
        lines += [f"state {folder}" for folder in self.states]
        lines += [f"webhook events {folder}" for folder in self.webhooks]
        lines += [f"scratch file {name}" for name in self.scratch]
        lines += [f"kept: run {run_id}, {reason}" for run_id, reason in self.kept.items()]
        return "\n".join(lines) if lines else "nothing to delete"

    def _describe_run(self, run: Candidate) -> str:
        answers = self.answers[run.run_id]
        loss = (
            f"; another tag policy would pay again for {answers} images, whose answers it holds"
            if answers
            else ""
        )
        return f"run {run.run_id}: {run.state} since {_day(run.since)}{loss}"

    def __len__(self) -> int:
        return len(self.runs) + len(self._folders) + len(self.scratch)

    @property
    def _folders(self) -> list[str]:
        """Those that go whole, beside runs."""
        return [*self.undo, *self.grants, *self.states, *self.webhooks]

    def delete(self, files: Files) -> None:
        """A run's `run.json` goes first: what a kill leaves is no run, but a remnant for the next time."""
        for run in self.runs:
            files.remove(f"{run_folder(run.run_id)}/run.json")
            files.remove_below(run_folder(run.run_id))
        for folder in self._folders:
            files.remove_below(folder)
        for name in self.scratch:
            files.remove(name)


def find_garbage(files: Files, wanted: Wanted, now: datetime) -> Garbage:
    """Read every run's state, and what the runs that stay need of others."""
    found = Garbage()
    candidates = [_look(files, run_id) for run_id in files.folders(RUNS)]
    old = [run for run in candidates if _is_old(run, wanted)]
    if wanted.undo_only:
        found.undo = [folder for run in old for folder in _undo_folders(files, run)]
    else:
        found.runs, found.kept = _needless(files, candidates, old)
        newest = dict(_newest_states(files))
        for mark in newest.values():
            found.answers.update(mark["runs"])
        open_runs = [Runs(files).read(run.run_id) for run in candidates if run.state in {"paused", "running"}]
        found.states = list(_past_states(files, newest, open_runs, wanted.before))
        found.grants = list(_past_grants(files, min(wanted.before, now - SCRATCH_AGE)))
        open_since = min((datetime.fromisoformat(run.created_at) for run in open_runs), default=now)
        found.webhooks = list(past_webhooks(files, wanted.before, now, open_since))
    found.scratch = [name for name, at in files.leftovers() if now - at > SCRATCH_AGE]
    return found


def _look(files: Files, run_id: str) -> Candidate:
    passes, control = Passes(files, run_id), Runs(files).control(run_id)
    newest = passes.count() - 1
    if passes.finished() > newest:
        state = "cancelled" if control.verb is Verb.CANCEL else "completed"
        return Candidate(run_id, state, _time(Manifest(files, run_id, newest).finished_at()))
    if not files.exists(f"{run_folder(run_id)}/run.json"):
        return Candidate(run_id, "remnant", None)  # or it is just being created
    if control.verb is Verb.PAUSE:
        return Candidate(run_id, "paused", _time(control.at))
    return Candidate(run_id, "running", None)


def _is_old(run: Candidate, wanted: Wanted) -> bool:
    return run.state in wanted.states and run.since is not None and run.since < wanted.before


def _needless(
    files: Files, candidates: list[Candidate], old: list[Candidate]
) -> tuple[list[Candidate], dict[str, str]]:
    """Keep what undoing a kept run may have to look up, and what undoing that may, and so on."""
    going = {run.run_id for run in old}
    kept: dict[str, str] = {}
    waiting = [run.run_id for run in candidates if run.run_id not in going]
    while waiting:
        user = waiting.pop()
        for needed in _replaced_runs(files, user) & going:
            going.discard(needed)
            kept[needed] = f"because undoing {user} may need what it wrote"
            waiting.append(needed)
    return [run for run in old if run.run_id in going], kept


def _replaced_runs(files: Files, run_id: str) -> set[str]:
    """Return the runs whose values this one's writes replaced."""
    values = UndoValues(files, run_id, Passes(files, run_id).count())
    return {value["run"] for _, kept in values for value in kept.values() if value.get("run")}


def _newest_states(files: Files) -> Iterator[tuple[tuple[str, int], Json]]:
    """Yield source and number of each source's newest whole state, with its mark."""
    for source in known_sources(files):
        states = States(files, source)
        if number := states.newest():
            yield (source, number), states.state(number).mark()


def _past_states(
    files: Files, newest: Mapping[tuple[str, int], Json], open_runs: Collection[RunSpec], before: datetime
) -> Iterator[str]:
    """Yield those that were replaced by then and that no open run was planned against."""
    in_use = {(spec.state["name"], spec.state["base"]) for spec in open_runs if spec.state}
    for (source, last), mark in newest.items():
        if datetime.fromisoformat(mark["at"]) < before:
            for number in States(files, source).numbers():
                if number < last and (source, number) not in in_use:
                    yield state_folder(source, number)


def _undo_folders(files: Files, run: Candidate) -> Iterator[str]:
    for number in range(Passes(files, run.run_id).count()):
        folder = f"{pass_folder(run.run_id, number)}/undo"
        if next(files.names(folder), None) is not None:
            yield folder


def _past_grants(files: Files, before: datetime) -> Iterator[str]:
    """Yield those of an account's days and months that were over then."""
    for account in files.folders(ACCOUNTS):
        folder = f"{account_folder(account)}/grants"
        for period in files.folders(folder):
            if period < f"{before:%Y-%m-%d}"[: len(period)]:
                yield f"{folder}/{period}"


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "nobody knows when"
