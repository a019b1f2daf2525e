"""What a later pass works on: rows of the run's view, chosen in the words of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson

from tagmill.producer.sources.base import Cursor, Listed
from tagmill.worker.models import Json, Place, WriteStatus
from tagmill.worker.rows import PREVIOUS, UNDONE, failed_tasks, ref_of
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.undo import UndoValues
from tagmill.worker.store.view import BEFORE_ALL, FAILED, View

OTHERS = "others"  #: rows that the pass leaves alone
#: A failed write may have been carried out, a stale or needless one may repeat what an earlier pass did.
UNDOABLE = frozenset(WriteStatus) - {WriteStatus.SKIPPED}
Wanted = Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """Which failed images are meant; of several values of one kind any fits, None of a kind: all."""

    classes: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()  #: globs over the image's id
    tasks: bool = False  #: instead of images that failed, those of whose tasks some did

    def __call__(self, row: Json) -> bool:
        named = not self.ids or any(fnmatchcase(row["id"], glob) for glob in self.ids)
        return named and any(map(self._fits, self._errors(row)))

    def _errors(self, row: Json) -> list[Json]:
        if self.tasks:
            return failed_tasks(row)
        return [row["error"] or {}] if row["status"] in FAILED else []

    def _fits(self, error: Json) -> bool:
        return (not self.classes or error.get("class") in self.classes) and (
            not self.codes or error.get("code") in self.codes
        )

    def to_json(self) -> Json:
        """As it comes back from a file, so that two of them can be compared."""
        said = {"classes": list(self.classes), "codes": list(self.codes), "ids": list(self.ids)}
        return said | ({"tasks": True} if self.tasks else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FailureFilter:
        lists = {name: tuple(values) for name, values in value.items() if name != "tasks"}
        return cls(**lists, tasks=value.get("tasks", False))


def wanted(current: PassSpec) -> Wanted:
    """Which rows a pass of that kind revises."""
    match current.kind:
        case PassKind.RETRY:
            return FailureFilter.from_json(current.select)
        case PassKind.RETAG:
            return lambda row: row["raw_tags"] is not None
        case PassKind.WRITE:
            # What failed to be undone is repaired by undoing it again, not by writing it anew.
            return lambda row: UNDONE not in row["flags"] and _has_write(row, {WriteStatus.FAILED})
        case PassKind.UNDO:
            return lambda row: _has_write(row, UNDOABLE)
        case _:
            raise ValueError(f"a {current.kind} pass revises no rows")


class Revision:
    """A source of rows, in plan order; a `Source` for the planner."""

    def __init__(self, files: Files, run_id: str, current: PassSpec) -> None:
        self._view = View(files, run_id, until=current.number)
        self._wanted = wanted(current)
        self._undo = UndoValues(files, run_id, current.number) if current.kind is PassKind.UNDO else None
        self._described = f"pass {current.number} of run {run_id}"

    def describe(self) -> str:
        return self._described

    def list(self, after: Cursor) -> Iterator[Listed]:
        start = (after["shard"], after["index"]) if after else BEFORE_ALL
        for place, line in self._view.placed(start):
            row = orjson.loads(line)
            cursor = {"shard": place[0], "index": place[1]}
            if self._wanted(row):
                yield Listed(ref_of(row), cursor, row=self._with_previous(place, row))
            else:
                yield Listed(None, cursor, OTHERS)

    def _with_previous(self, place: Place, row: Json) -> Json:
        previous = self._undo.at(place) if self._undo is not None else None
        return {**row, PREVIOUS: previous} if previous else row


def _has_write(row: Json, statuses: frozenset[WriteStatus] | set[WriteStatus]) -> bool:
    return any(write["status"] in statuses for write in row["writes"].values())
