"""What later passes work on, from the files alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun

from tagmill.producer.passes import Wish, propose
from tagmill.producer.revision import FailureFilter, Revision
from tagmill.worker.compaction import Compaction
from tagmill.worker.errors import ConfigError
from tagmill.worker.history import History
from tagmill.worker.models import Handle, ImageRef, Status
from tagmill.worker.rows import PREVIOUS
from tagmill.worker.store import jsonl
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.undo import UndoValues

STATUSES = [Status.TAGGED, Status.FAILED, Status.SKIPPED]


@pytest.fixture
def run() -> SmallRun:
    """Finished: of nine images in three shards every second and third of three was not tagged."""
    run = SmallRun(MemoryFiles())
    for _ in range(3):
        run.shard(3, 3)
    run.finish_plan()
    for chunk in run.chunks:
        run.commit(chunk, STATUSES)
    compaction = Compaction(run.files, run.spec, FIRST_PASS)
    compaction.finish([compaction.compact(header, 0) for header in run.headers])
    return run


def revised(run: SmallRun, kind: PassKind, after: dict[str, Any] | None = None, **select: Any) -> list[str]:
    items = Revision(run.files, RUN, PassSpec(1, kind, {}, select=select)).list(after or {})
    return [item.ref.id.removeprefix("filestack:") for item in items if item.ref]


def test_a_retry_is_about_failed_images_and_can_be_taken_up_anywhere(run: SmallRun) -> None:
    assert revised(run, PassKind.RETRY) == ["h1", "h4", "h7"]
    assert revised(run, PassKind.RETRY, {"shard": 1, "index": 1}) == ["h7"]
    assert revised(run, PassKind.RETAG) == ["h0", "h3", "h6"]


@pytest.mark.parametrize(
    ("chosen", "images"),
    [
        (FailureFilter(codes=("rejected", "other")), ["h1", "h4", "h7"]),
        (FailureFilter(codes=("other",)), []),
        (FailureFilter(classes=("ImageRejectedError",), ids=("*h4", "*h7")), ["h4", "h7"]),
        (FailureFilter(classes=("SomeError",), ids=("*h4",)), []),
    ],
)
def test_failures_are_chosen_by_class_code_and_id(
    run: SmallRun, chosen: FailureFilter, images: list[str]
) -> None:
    assert revised(run, PassKind.RETRY, **chosen.to_json()) == images
    assert FailureFilter.from_json(chosen.to_json()) == chosen


def test_tasks_are_chosen_by_their_own_errors() -> None:
    failure = {"class": "ImageRejectedError", "code": "rejected", "message": "too large"}
    row: dict[str, Any] = {"id": "filestack:h1", "status": "tagged", "error": None}
    row["results"] = {"tags": {"data": {}}, "words": {"error": failure}}
    whole = {**row, "results": {"tags": {"data": {}}}}
    assert FailureFilter(tasks=True)(row)
    assert FailureFilter(codes=("rejected",), ids=("*h1",), tasks=True)(row)
    assert not FailureFilter(codes=("other",), tasks=True)(row)
    assert not FailureFilter(tasks=True)(whole)
    assert not FailureFilter()(row)
    chosen = FailureFilter(codes=("rejected",), tasks=True)
    assert FailureFilter.from_json(chosen.to_json()) == chosen
    assert "tasks" not in FailureFilter().to_json()


def test_of_many_equal_commands_one_makes_the_pass_and_all_mean_it(run: SmallRun) -> None:
    runs, wish = Runs(run.files), Wish(PassKind.RETRY, FailureFilter().to_json())
    proposed = [propose(runs, RUN, wish) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(Passes(run.files, RUN).create, proposed)) == 1
    assert Passes(run.files, RUN).newest().number == 1
    assert propose(runs, RUN, wish).number == 1


def test_a_run_without_a_pipeline_has_no_failed_tasks(run: SmallRun) -> None:
    with pytest.raises(ConfigError, match="has no pipeline"):
        propose(Runs(run.files), RUN, Wish(PassKind.RETRY, FailureFilter(tasks=True).to_json()))


def test_one_thing_is_done_to_a_run_at_a_time(run: SmallRun) -> None:
    runs = Runs(run.files)
    Passes(run.files, RUN).create(Wish(PassKind.UNDO).after(FIRST_PASS))
    with pytest.raises(ConfigError, match=r"pass 1 \(undo\).*tagmill run --resume"):
        propose(runs, RUN, Wish(PassKind.RETRY))


def test_a_pass_has_the_policy_of_the_pass_before_unless_it_brings_its_own() -> None:
    first = PassSpec(0, PassKind.TAG, {"max_tags": 2})
    retagged = Wish(PassKind.RETAG, policy={"max_tags": 1}).after(first)
    assert (retagged.policy, Wish(PassKind.RETRY).after(retagged).policy) == ({"max_tags": 1},) * 2
    assert Wish(PassKind.RETRY).after(retagged).inputs == ["0000", "0001"]


def test_the_oldest_pass_knows_what_stood_there_before_the_run() -> None:
    files = MemoryFiles()
    for pass_no, name, kept in (
        (0, "00000000-00000", [(0, 1, {"metadata": 1})]),
        (0, "00000002-00000", [(2, 0, {"metadata": 2})]),
        (1, "00000000-00000", [(0, 1, {"metadata": 9, "sidecar": 9}), (2, 0, {"metadata": 9})]),
        (2, "00000000-00000", [(1, 5, {"metadata": 3})]),
    ):
        records = [{"shard": s, "index": i, PREVIOUS: values} for s, i, values in kept]
        files.create(f"runs/{RUN}/passes/{pass_no:04d}/undo/{name}.jsonl.gz", jsonl.pack(records))
    values = UndoValues(files, RUN, until=2)
    assert values.at((0, 0)) == {}
    assert values.at((0, 1)) == {"metadata": 1, "sidecar": 9}
    assert values.at((1, 5)) == {}
    assert values.at((2, 0)) == {"metadata": 2}


async def test_an_earlier_run_tells_how_it_tagged_an_image(run: SmallRun) -> None:
    history = History(run.files)
    for handle in ("h3", "h6", "h0", "h3"):  # in any order
        tagged = await history.tagged(RUN, ImageRef(Handle(handle)))
        assert tagged is not None
        assert tagged.ref == ImageRef(Handle(handle))
        assert (tagged.tagging.run_id, tagged.tagging.tags["auto"]) == (RUN, {"sky": 97})
    assert await history.tagged(RUN, ImageRef(Handle("h1"))) is None
    assert await history.tagged(RUN, ImageRef(Handle("unknown"))) is None
    assert await history.tagged("gone", ImageRef(Handle("h3"))) is None
