"""Parts to manifest to views: derived from files alone, safe to repeat, whoever does it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.manifest import Manifest, ShardEntry
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.plan import Plan, ShardHeader
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.summary import summary


class Compaction:
    """One pass of one run."""

    def __init__(self, files: Files, spec: RunSpec, pass_no: int) -> None:
        self._files, self._spec, self._pass_no = files, spec, pass_no
        self._parts = Parts(files, spec.run_id, pass_no)
        self._plan = Plan(files, spec.run_id, pass_no)
        self._manifest = Manifest(files, spec.run_id, pass_no)

    def compact(self, header: ShardHeader, throttled: int) -> ShardEntry:
        """Every chunk of the shard must be committed."""
        chunks = header.chunks(self._spec.run_id, self._pass_no)
        lines = [line for chunk in chunks for line in self._parts.lines(chunk)]
        return self._manifest.add_shard(header.shard, lines, throttled)

    def finish(self, entries: Sequence[ShardEntry]) -> Json:
        """Every shard must be compacted. Write index, mark and views; return the summary."""
        in_order = sorted(entries, key=lambda entry: entry.shard)
        self._manifest.finish(in_order, finished_at=datetime.now(UTC).isoformat())
        return self.write_views(in_order)

    def write_views(self, entries: list[ShardEntry]) -> Json:
        self._manifest.write_views(entries)
        counts = Counts.total(entry.counts for entry in entries)
        extra_calls, extra_maybe = self._parts.extra()
        counts.calls += extra_calls
        counts.maybe_charged += extra_maybe
        final = summary(
            self._spec,
            location=self._files.location,
            pass_no=self._pass_no,
            planned=self._plan.planned(),
            counts=counts,
            finished_at=self._manifest.finished_at(),
        )
        self._manifest.write_summary(final)
        return final
