"""What is settled of a run by now, for reading: each image once, in plan order, a shard in memory."""

from __future__ import annotations

from collections.abc import Iterator

from tagmill.worker.policy import TagPolicy
from tagmill.worker.store.base import Files
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.view import View


class Settled:
    """As it stands when it is asked for; a pass that goes on meanwhile changes nothing that is read."""

    def __init__(self, files: Files, run_id: str) -> None:
        """Raise `NotFoundError` for an unknown run."""
        Runs(files).read(run_id)
        self._files, self.run_id = files, run_id
        self._passes = Passes(files, run_id)
        self._finished = self._passes.finished()

    @property
    def complete(self) -> bool:
        """Whether every image has a row."""
        return self._finished > 0

    @property
    def caveat(self) -> str | None:
        """What to say of a run that something is being done to."""
        if not self.complete:
            return f"run {self.run_id} is not finished: this is about the images that are settled so far"
        if (number := self._passes.count()) > self._finished:
            return f"pass {number - 1} of run {self.run_id} is not finished: this is how it stood before"
        return None

    def policies(self) -> dict[str, TagPolicy]:
        """Return those that its rows may have, by hash."""
        passes = map(self._passes.read, range(max(self._finished, 1)))
        return {policy.hash: policy for policy in (TagPolicy.from_json(spec.policy) for spec in passes)}

    def lines(self) -> Iterator[bytes]:
        """Rows as JSON without line ends; of a first pass that goes on, those that are committed."""
        if self.complete:
            return View(self._files, self.run_id, self._finished).lines()
        return self._committed()

    def _committed(self) -> Iterator[bytes]:
        manifest, parts = Manifest(self._files, self.run_id, 0), Parts(self._files, self.run_id, 0)
        compacted = set(manifest.compacted())
        for shard in Plan(self._files, self.run_id, 0).shards():
            yield from manifest.lines(shard) if shard in compacted else parts.lines_of_shard(shard)
