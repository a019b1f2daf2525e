"""The runs of a store at a glance; with Redis: tests/acceptance/test_watching.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.files import CountingFiles, MemoryFiles
from fakes.runs import FIRST_PASS, SmallRun, a_spec

from tagmill.producer.listing import list_runs
from tagmill.worker.compaction import Compaction
from tagmill.worker.models import Json, Status
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb


def nowhere(_: RunSpec) -> Board | None:
    return None


def a_run(files: Files, run_id: str, day: int, **fields: Any) -> SmallRun:
    spec = replace(a_spec(run_id, **fields), created_at=f"2026-11-{day:02d}T00:00:00+00:00")
    run = SmallRun(files, spec)
    run.shard(20, 10)
    return run


def complete(run: SmallRun) -> None:
    run.finish_plan()
    for chunk in run.chunks:
        run.commit(chunk, [Status.TAGGED, Status.FAILED])
    compaction = Compaction(run.files, run.spec, FIRST_PASS)
    compaction.finish([compaction.compact(header, 0) for header in run.headers])


def listed(files: Files, limit: int | None = None) -> list[Json]:
    found = list_runs(files, nowhere, limit)
    assert found["schema"] == 1
    runs: list[Json] = found["runs"]
    return runs


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


def test_the_newest_comes_first(files: MemoryFiles) -> None:
    for run_id, day in (("b-run", 2), ("a-run", 3), ("c-run", 1)):
        a_run(files, run_id, day)
    assert [run["run_id"] for run in listed(files)] == ["a-run", "b-run", "c-run"]
    assert [run["run_id"] for run in listed(files, limit=2)] == ["a-run", "b-run"]
    assert listed(MemoryFiles()) == []


def test_a_finished_run_has_all_its_counts(files: MemoryFiles) -> None:
    complete(a_run(files, "a-run", 1, price_per_1000="2"))
    [run] = listed(files)
    assert (run["state"], run["planned"], run["tagged"], run["failed"], run["remaining"]) == (
        *("completed", 20, 10, 10, 0),
    )
    assert (run["calls"], run["cost"]) == (20, 0.04)


def test_what_only_many_reads_would_tell_of_an_unfinished_run_is_null(files: MemoryFiles) -> None:
    run = a_run(files, "a-run", 1)
    run.commit(run.chunks[0])
    Runs(files).set_control("a-run", Control(verb=Verb.PAUSE, reason="requested"))
    [told] = listed(files)
    assert (told["state"], told["reason"], told["pass"]) == ("paused", "requested", 0)
    assert (told["planned"], told["tagged"], told["calls"]) == (None, None, None)
    run.finish_plan()
    [told] = listed(files)
    assert (told["planned"], told["tagged"]) == (20, None)


def test_a_run_with_a_new_pass_is_not_finished(files: MemoryFiles) -> None:
    complete(a_run(files, "a-run", 1))
    Passes(files, "a-run").create(PassSpec(1, PassKind.RETRY, {}))
    [told] = listed(files)
    assert (told["state"], told["pass"], told["planned"]) == ("running", 1, 20)


def test_what_is_no_whole_run_is_left_out(files: MemoryFiles) -> None:
    files.create("runs/half/input/list.txt", b"")
    files.create("runs/newer/run.json", b'{"format": 99}')
    a_run(files, "a-run", 1)
    assert [run["run_id"] for run in listed(files)] == ["a-run"]


def test_it_costs_a_few_small_requests_a_run_however_large_it_is() -> None:
    files = CountingFiles()
    for number in range(5):
        run = a_run(files, f"{number}-run", 1)
        for _ in range(10):
            run.shard(20, 10)
        complete(run)
    files.requests = 0
    assert len(listed(files)) == 5
    assert files.requests <= 1 + 5 * 4
