"""Parts to manifest to views: derived from files alone, safe to repeat, whoever does it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from tagmill.worker.counts import Counts
from tagmill.worker.followers import begin_followers
from tagmill.worker.remembering import remember
from tagmill.worker.store.base import Files
from tagmill.worker.store.departures import Departures
from tagmill.worker.store.manifest import Manifest, ShardEntry
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassSpec
from tagmill.worker.store.plan import Plan, ShardHeader
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.view import View
from tagmill.worker.summary import counts_before, summary, write_summary


class Compaction:
    """One pass of one run."""

    def __init__(self, files: Files, spec: RunSpec, current: PassSpec) -> None:
        self._files, self._spec, self._current = files, spec, current
        self._parts = Parts(files, spec.run_id, current.number)
        self._plan = Plan(files, spec.run_id, current.number)
        self._manifest = Manifest(files, spec.run_id, current.number)

    def compact(self, header: ShardHeader, throttled: int) -> ShardEntry:
        """Every chunk of the shard must be committed."""
        chunks = header.chunks(self._spec.run_id, self._current.number)
        lines = [line for chunk in chunks for line in self._parts.lines(chunk)]
        return self._manifest.add_shard(header.shard, lines, throttled)

    def finish(self, entries: Sequence[ShardEntry], drawn: int = 0) -> None:
        """Every shard must be compacted. Write index and mark, and then the views or the pass that is due.

        `drawn`: calls of the budget that were drawn or lost.
        """
        in_order = sorted(entries, key=lambda entry: entry.shard)
        self._manifest.finish(in_order, self._counts(in_order), finished_at=datetime.now(UTC).isoformat())
        if self._manifest.counts().waiting:
            begin_followers(self._files, self._spec.run_id, self._current)
        else:
            remember(self._files, self._spec, self._current)
            self._write_views(drawn)

    def _write_views(self, drawn: int) -> None:
        """Of a finished pass."""
        tagged = Plan(self._files, self._spec.run_id, 0)
        planned = tagged.planned()
        View(self._files, self._spec.run_id, self._current.number + 1).write(planned)
        Departures(self._files, self._spec.run_id).write_view()
        final = summary(
            self._spec,
            self._current,
            location=self._files.location,
            planned=planned,
            counts=self._manifest.counts(),
            drawn=drawn,
            control=Runs(self._files).control(self._spec.run_id),
            finished_at=self._manifest.finished_at(),
            found=tagged.found(),
        )
        write_summary(self._files, self._spec.run_id, final)

    def _counts(self, entries: Sequence[ShardEntry]) -> Counts:
        extra_calls, extra_maybe = self._parts.extra()
        extra = Counts(calls=extra_calls, maybe_charged=extra_maybe)
        kept = counts_before(self._files, self._spec.run_id, self._plan)
        return Counts.total([kept, extra, *(entry.counts for entry in entries)])
