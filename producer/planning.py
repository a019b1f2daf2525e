"""A run's planner on a thread of its own: plans ahead while the run is followed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import orjson

from tagmill.producer.adopting import events_since
from tagmill.producer.duplicates import find_duplicates
from tagmill.producer.incremental import Incremental
from tagmill.producer.meeting import meeting
from tagmill.producer.planner import ChunkSizing, Listing, Planner, Search
from tagmill.producer.revision import Revision
from tagmill.producer.selection import limited, sample_threshold, sampled
from tagmill.producer.sources.base import Cursor, Listed, Source
from tagmill.producer.sources.opening import open_source
from tagmill.producer.sources.present import Present
from tagmill.producer.sources.spec import SourceSpec
from tagmill.worker.errors import NotFoundError
from tagmill.worker.store.deleted import deleted_handles
from tagmill.worker.store.duplicates import Duplicates
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.states import States

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SAMPLE_FILE = "sample.json"
NO_LIMIT = sys.maxsize
REVISIONS_PER_SECOND = 100.0  #: images that a pass without calls is expected to write back


def reopen_source(
    runs: Runs, spec: RunSpec, s3_client: Callable[[], S3Client], list_workers: int = 1
) -> Source:
    """Open the source that the run was created with; lists come from their copy in the run."""
    chosen = SourceSpec.from_json(spec.source)
    source = open_source(
        chosen,
        s3_client=s3_client,
        open_input=lambda name: runs.open_input(spec.run_id, name),
        list_workers=list_workers,
    )
    return source if chosen.input is None else Present(source, lambda: deleted_handles(runs.files))


def refuse_empty(source: Source) -> None:
    """Raise `NotFoundError`, saying what was passed over, when there is nothing to tag."""
    skipped: dict[str, int] = {}
    for item in source.list({}):
        if item.ref is not None:
            return
        reason = item.skipped or "unknown"
        skipped[reason] = skipped.get(reason, 0) + 1
    seen = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    raise NotFoundError(f"no images in {source.describe()}" + (f" (passed over: {seen})" if seen else ""))


def pass_planner(
    runs: Runs,
    spec: RunSpec,
    current: PassSpec,
    s3_client: Callable[[], S3Client],
    list_workers: int = 1,
) -> Planner:
    """Plan the library in the first pass, rows of the run in later ones."""
    if current.number == 0:
        return make_planner(runs, spec, reopen_source(runs, spec, s3_client, list_workers))
    revision = Revision(runs.files, spec.run_id, current)
    rate = _images_per_second(spec) if current.kind is PassKind.RETRY else REVISIONS_PER_SECOND
    return Planner(
        Plan(runs.files, spec.run_id, current.number),
        lambda after, _planned: revision.list(after),
        shard_size=spec.shard_size,
        sizing=ChunkSizing(rate, spec.chunk_size),
    )


def make_planner(runs: Runs, spec: RunSpec, source: Source) -> Planner:
    sizing = ChunkSizing(_images_per_second(spec), spec.chunk_size)
    plan = Plan(runs.files, spec.run_id, 0)
    search = _search(runs, spec, plan) if spec.deduplicates else None
    event_runs = events_since(runs, spec) if spec.state else ()
    listing = _since(runs, spec, source, event_runs) if spec.is_incremental else _selected(runs, spec, source)
    return Planner(plan, listing, shard_size=spec.shard_size, sizing=sizing, search=search)


def _since(runs: Runs, spec: RunSpec, source: Source, event_runs: Sequence[str]) -> Listing:
    """List beside the state that an earlier run left."""
    state = States(runs.files, spec.state["name"]).state(spec.state["base"])
    met = meeting(SourceSpec.from_json(spec.source), source, state)
    return Incremental(runs.files, spec, met, event_runs).list


def _selected(runs: Runs, spec: RunSpec, source: Source) -> Listing:
    chosen = SourceSpec.from_json(spec.source)

    def listing(after: Cursor, planned: int) -> Iterable[Listed]:
        items: Iterable[Listed] = source.list(after)
        if chosen.sample is not None and chosen.seed is not None:
            items = sampled(items, _threshold(runs, spec, chosen, source), chosen.seed)
        most = min(chosen.limit or NO_LIMIT, chosen.sample or NO_LIMIT)
        return limited(items, most, planned)

    return listing


def _images_per_second(spec: RunSpec) -> float:
    return spec.planned_rate / spec.calls_per_image[1]


def _search(runs: Runs, spec: RunSpec, plan: Plan) -> Search:
    return lambda stopped: find_duplicates(plan, Duplicates(runs.files, spec.run_id), stopped)


def _threshold(runs: Runs, spec: RunSpec, chosen: SourceSpec, source: Source) -> int:
    """Draw the sample once; a resumed or a second producer goes on with the same one."""
    try:
        return int(orjson.loads(runs.read_input(spec.run_id, SAMPLE_FILE))["threshold"])
    except FileNotFoundError:
        assert chosen.sample is not None and chosen.seed is not None  # noqa: S101, PT018 - a sample has both
        threshold = sample_threshold(source.list({}), chosen.sample, chosen.seed)
        runs.keep_input(spec.run_id, SAMPLE_FILE, orjson.dumps({"threshold": threshold, "seed": chosen.seed}))
        return _threshold(runs, spec, chosen, source)  # of whoever came first
