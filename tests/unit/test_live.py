"""What a run is doing, told by the files alone; with Redis: tests/integration/test_board.py."""

from __future__ import annotations

import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun, a_spec

from tagmill.producer.live import LiveRun, newest_run
from tagmill.worker.compaction import Compaction
from tagmill.worker.errors import NotFoundError
from tagmill.worker.models import Status
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb
from tagmill.worker.summary import read_summary


class ReadOnceFiles(MemoryFiles):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, name: str) -> bytes:
        self.reads.append(name.rpartition("/")[2])
        return super().read(name)


@pytest.fixture
def files() -> ReadOnceFiles:
    return ReadOnceFiles()


@pytest.fixture
def run(files: ReadOnceFiles) -> SmallRun:
    run = SmallRun(files)
    for _ in range(3):
        run.shard(20, 10)
    return run


def compact(run: SmallRun, *shards: int) -> None:
    for shard in shards:
        Compaction(run.files, run.spec, FIRST_PASS).compact(run.headers[shard], throttled=0)


def test_an_unknown_run_is_not_found(files: ReadOnceFiles) -> None:
    with pytest.raises(NotFoundError):
        LiveRun(files, "nowhere", None)


def test_what_is_committed_and_compacted_is_counted_once(run: SmallRun) -> None:
    for chunk in run.chunks[:5]:
        run.commit(chunk, [Status.TAGGED, Status.FAILED])
    compact(run, 0)
    said = LiveRun(run.files, RUN, None).summary()
    assert (said["state"], said["planned"], said["tagged"], said["failed"]) == ("running", 60, 25, 25)
    assert said["remaining"] == 10


def test_a_gap_in_the_compacted_shards_is_looked_into(run: SmallRun) -> None:
    for chunk in (*run.chunks[:1], *run.chunks[2:4]):
        run.commit(chunk)
    compact(run, 1)
    assert LiveRun(run.files, RUN, None).summary()["tagged"] == 30


def test_what_never_changes_is_read_once(files: ReadOnceFiles, run: SmallRun) -> None:
    for chunk in run.chunks[:3]:
        run.commit(chunk)
    compact(run, 0)
    run.finish_plan()
    live = LiveRun(files, RUN, None)
    first = live.summary()
    files.reads.clear()
    run.commit(run.chunks[3])
    assert live.summary()["tagged"] == first["tagged"] + 10
    assert files.reads == ["00000001-00010.jsonl.gz"]


def test_shards_that_nobody_began_are_not_read(files: ReadOnceFiles, run: SmallRun) -> None:
    run.finish_plan()
    files.reads.clear()
    LiveRun(files, RUN, None).summary()
    assert sorted(files.reads) == ["pass.json", "plan.json", "run.json"]


def test_planning_shows_until_it_is_finished(run: SmallRun) -> None:
    live = LiveRun(run.files, RUN, None)
    assert (live.summary()["planned"], live.planning) == (60, True)
    run.shard(5, 10)
    assert (live.summary()["planned"], live.planning) == (65, True)
    run.finish_plan()
    assert (live.summary()["planned"], live.planning) == (65, False)


def test_control_says_what_it_is_doing(run: SmallRun) -> None:
    live = LiveRun(run.files, RUN, None)
    Runs(run.files).set_control(RUN, Control(verb=Verb.PAUSE, reason="credentials"))
    assert (live.summary()["state"], live.summary()["reason"]) == ("paused", "credentials")
    Runs(run.files).set_control(RUN, Control(verb=Verb.RESUME))
    assert live.summary()["state"] == "running"


def test_a_finished_run_is_what_its_summary_file_says(run: SmallRun) -> None:
    run.finish_plan()
    for chunk in run.chunks:
        run.commit(chunk)
    live = LiveRun(run.files, RUN, None)
    compaction = Compaction(run.files, run.spec, FIRST_PASS)
    entries = [compaction.compact(header, 0) for header in run.headers]
    assert live.summary()["state"] == "running"
    compaction.finish(entries)
    assert live.summary() == read_summary(run.files, RUN)


def test_a_run_whose_finisher_died_before_the_views_is_still_running(run: SmallRun) -> None:
    run.finish_plan()
    run.files.create(f"runs/{RUN}/passes/0000/_SUCCESS", b"")
    assert LiveRun(run.files, RUN, None).summary()["state"] == "running"


def test_the_newest_run_is_the_one_created_last(files: ReadOnceFiles) -> None:
    with pytest.raises(NotFoundError, match="no runs in memory"):
        newest_run(files)
    for run_id, day in (("b-run", "22"), ("a-run", "23"), ("c-run", "21")):
        Runs(files).create(RunSpec(run_id, f"2026-11-{day}T00:00:00+00:00", {}, "fake", ()))
    files.create("runs/half-created/input/list.txt", b"")
    assert newest_run(files) == "a-run"
    assert a_spec().run_id == RUN
