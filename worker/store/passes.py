"""The passes of a run: pass 0 tags, each later one revises rows of the passes before it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from tagmill.worker.models import Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import SUCCESS, pass_folder, run_folder


class PassKind(StrEnum):
    TAG = "tag"
    RETRY = "retry"  #: failed images are asked for again
    RETAG = "retag"  #: another tag policy, applied to the answers that are there
    WRITE = "write"  #: write-backs that failed
    UNDO = "undo"  #: write-backs taken back
    FOLLOWERS = "followers"  #: answers handed on to images of the same content

    @property
    def calls(self) -> bool:
        """Whether the tagging API may be called at all."""
        return self in {PassKind.TAG, PassKind.RETRY, PassKind.FOLLOWERS}

    def reuses(self, row: Json) -> bool:
        """Whether the answer of that row will do, so that the tagging API is not called."""
        if self is PassKind.FOLLOWERS and row["error"] is not None:
            return True  # that of an image with its content will do, too
        return self is not PassKind.RETRY and row["raw_tags"] is not None


@dataclass(frozen=True, slots=True)
class PassSpec:
    """`pass.json`, frozen."""

    number: int
    kind: PassKind
    policy: Json  #: the tag policy that its rows have
    inputs: list[str] = field(default_factory=list)  #: passes whose rows it may revise, as `0000`
    select: Json = field(default_factory=dict)  #: which of them, in the words of its kind
    created_at: str = ""  #: RFC 3339, UTC


class Passes:
    def __init__(self, files: Files, run_id: str) -> None:
        self._files, self._run_id = files, run_id

    def create(self, spec: PassSpec) -> bool:
        """Return False when a pass of that number exists: of two commands at once, one makes it."""
        value = dataclasses.asdict(spec)
        del value["number"]
        return self._files.create(self._name(spec.number), orjson.dumps(value))

    def read(self, number: int) -> PassSpec:
        value = orjson.loads(self._files.read(self._name(number)))
        return PassSpec(**{**value, "number": number, "kind": PassKind(value["kind"])})

    def newest(self) -> PassSpec:
        """Every run has pass 0."""
        return self.read(self.count() - 1)

    def count(self) -> int:
        """A pass counts once its `pass.json` is there."""
        numbers = map(int, self._files.folders(f"{run_folder(self._run_id)}/passes"))
        return 1 + max((number for number in numbers if self._files.exists(self._name(number))), default=0)

    def finished(self) -> int:
        """The number of passes that are finished; one is begun only when those before it are."""
        newest = self.count() - 1
        mark = f"{pass_folder(self._run_id, newest)}/{SUCCESS}"
        return newest + self._files.exists(mark)

    def _name(self, number: int) -> str:
        return f"{pass_folder(self._run_id, number)}/pass.json"
