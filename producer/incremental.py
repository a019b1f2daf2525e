"""A run over a source that an earlier run knew: what of it is planned, and with which answers."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from tagmill.producer.adopting import adopting
from tagmill.producer.judging import NOT_PLANNED, WITH_ANSWER, Standard, Verdict, Why
from tagmill.producer.meeting import Meeting, Met
from tagmill.producer.planner import DISAPPEARED
from tagmill.producer.sources.base import Cursor, Listed
from tagmill.worker.known import Known
from tagmill.worker.models import Json, Place
from tagmill.worker.rows import again
from tagmill.worker.store.base import Files
from tagmill.worker.store.departures import Departures
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.view import View

BATCH = 5_000  #: images whose earlier rows are looked up together
NO_VERDICT = Verdict(Why.UNCHANGED)


@dataclass(frozen=True, slots=True)
class Judged:
    met: Met
    verdict: Verdict  #: of an image

    @property
    def reapplied(self) -> bool:
        return self.verdict.why in WITH_ANSWER


class Incremental:
    """A listing for the planner; planned again from a shard's cursor, an unchanged source gives the same."""

    def __init__(self, files: Files, spec: RunSpec, meeting: Meeting, event_runs: Sequence[str] = ()) -> None:
        """`event_runs`: those that came to their end since."""
        self._files, self._spec, self._meeting, self._event_runs = files, spec, meeting, event_runs
        self._standard = Standard.of(spec)

    def list(self, after: Cursor, planned: int) -> Iterator[Listed]:
        """`planned`: images planned before; what disappeared is kept before its shard is whole."""
        departures, size = Departures(self._files, self._spec.run_id), self._spec.shard_size
        for one, row in self._with_rows(adopting(self._files, self._event_runs, self._meeting(after))):
            place = divmod(planned, size)
            item = self._listed(one, row, place)
            if one.met.item is None and one.met.known is not None:
                departures.note(one.met.known, place[0])
            if item.ref is not None:
                planned += 1
                if place[1] == size - 1:
                    departures.end_shard(place[0])
            yield item
        departures.flush(planned // size)

    def _with_rows(self, met: Iterator[Met]) -> Iterator[tuple[Judged, Json | None]]:
        while batch := [self._judge(one) for one in itertools.islice(met, BATCH)]:
            rows = earlier_rows(self._files, [one.met.known for one in batch if one.reapplied])
            for one in batch:
                yield one, rows.get(one.met.known.id) if one.reapplied and one.met.known else None

    def _judge(self, met: Met) -> Judged:
        if met.item is None or met.item.ref is None:
            return Judged(met, NO_VERDICT)
        verdict = self._standard.judge(met.known, met.item.ref.source)
        if met.by_event and met.known is not None and verdict.why is Why.UNCHANGED:
            # Whoever has no answer finds the tags in their place, and so comes to be known.
            verdict = Verdict(Why.NEW if met.known.place is None else Why.ADOPTED)
        return Judged(met, verdict)

    def _listed(self, one: Judged, row: Json | None, place: Place) -> Listed:
        item, verdict = one.met.item, one.verdict
        if item is None:
            return Listed(None, one.met.cursor, why=DISAPPEARED)
        if item.ref is None:
            return item
        if one.reapplied and row is None:
            verdict = Verdict(Why.LOST)
        if verdict.why in NOT_PLANNED:
            return Listed(None, one.met.cursor, why=verdict.why.value)
        ref = dataclasses.replace(item.ref, fresh=verdict.fresh)
        line = again(row, ref, self._spec.run_id, place) if row is not None else None
        return Listed(ref, one.met.cursor, row=line, why=verdict.why.value)


def earlier_rows(files: Files, known: Sequence[Known | None]) -> dict[str, Json]:
    """Return the rows with the answers of these images, by id; those that are gone are left out."""
    wanted: dict[str, dict[Place, str]] = defaultdict(dict)
    for one in known:
        if one is not None and one.place is not None:
            wanted[one.run][one.place] = one.id
    found = (row for run, ids in wanted.items() for row in _rows_at(files, run, ids))
    return {row["id"]: row for row in found if row["raw_tags"] is not None}


def _rows_at(files: Files, run: str, ids: dict[Place, str]) -> Iterator[Json]:
    first, last = min(ids), max(ids)
    view = View(files, run, Passes(files, run).finished())
    for place, line in view.placed((first[0], first[1] - 1)):
        if place > last:
            return
        if place in ids and (row := orjson.loads(line))["id"] == ids[place]:
            yield row
