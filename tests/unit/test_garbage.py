from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from fakes.files import MemoryFiles
from fakes.libraries import Series
from fakes.runs import FIRST_PASS, SmallRun, a_spec

from tagmill.producer.garbage import Wanted, find_garbage
from tagmill.worker.compaction import Compaction
from tagmill.worker.models import Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.cursors import Cursors
from tagmill.worker.store.digests import Digest, Digests
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.runs import Control, Runs, Verb
from tagmill.worker.store.webhook_events import Event, EventWriter

NOW = datetime.now(UTC) + timedelta(days=100)
OLD = Wanted(NOW - timedelta(days=90))


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


def a_run(files: MemoryFiles, run_id: str, *, finished: bool = True, replaced: str | None = None) -> SmallRun:
    """Of one image, whose write replaced what another run wrote."""
    run = SmallRun(files, a_spec(run_id))
    run.shard(1, 1)
    run.finish_plan()
    former: Json = {"metadata": {"run": replaced, "values": {}}}
    run.parts.keep_undo(run.chunks[0], [{"shard": 0, "index": 0, "previous": former}])
    if finished:
        run.commit(run.chunks[0])
        compaction = Compaction(files, run.spec, FIRST_PASS)
        compaction.finish([compaction.compact(run.headers[0], 0)])
    return run


def found(files: MemoryFiles, wanted: Wanted = OLD) -> list[str]:
    return [run.run_id for run in find_garbage(files, wanted, NOW).runs]


def test_old_finished_runs_go_and_others_stay(files: MemoryFiles) -> None:
    a_run(files, "done")
    a_run(files, "going", finished=False)
    Runs(files).set_control(a_run(files, "cancelled").spec.run_id, Control(verb=Verb.CANCEL))
    files.create("runs/half-made/input/list.txt", b"")
    assert found(files) == ["cancelled", "done"]
    assert found(files, Wanted(OLD.before, ("completed",))) == ["done"]
    assert found(files, Wanted(NOW - timedelta(days=120))) == []


def test_a_paused_run_goes_only_when_it_is_asked_for(files: MemoryFiles) -> None:
    a_run(files, "paused", finished=False)
    at = (NOW - timedelta(days=95)).isoformat()
    Runs(files).set_control("paused", Control(verb=Verb.PAUSE, at=at))
    assert found(files) == []
    assert found(files, Wanted(OLD.before, ("paused",))) == ["paused"]


def test_a_run_that_something_is_done_to_stays(files: MemoryFiles) -> None:
    a_run(files, "retried")
    Passes(files, "retried").create(PassSpec(1, PassKind.RETRY, {}))
    assert found(files) == []


def test_what_the_undo_of_a_kept_run_may_need_stays_however_long_the_chain(files: MemoryFiles) -> None:
    a_run(files, "first")
    a_run(files, "second", replaced="first")
    a_run(files, "third", replaced="second", finished=False)
    a_run(files, "alone", replaced="gone")
    garbage = find_garbage(files, OLD, NOW)
    assert [run.run_id for run in garbage.runs] == ["alone"]
    assert set(garbage.kept) == {"first", "second"}
    assert "third" in garbage.kept["second"]


def test_a_whole_chain_of_old_runs_goes(files: MemoryFiles) -> None:
    a_run(files, "first")
    a_run(files, "second", replaced="first")
    assert found(files) == ["first", "second"]


def test_deleting_leaves_nothing_of_a_run_and_all_of_the_others(files: MemoryFiles) -> None:
    a_run(files, "going", finished=False)
    kept = dict(files.contents)
    a_run(files, "done")
    files.create(".probe-0123", b"1")
    find_garbage(files, OLD, NOW).delete(files)
    assert files.contents == kept


def test_what_a_killed_deletion_left_goes_the_next_time(files: MemoryFiles) -> None:
    a_run(files, "done")
    files.remove("runs/done/run.json")
    assert found(files) == ["done"]
    find_garbage(files, OLD, NOW).delete(files)
    assert files.contents == {}


def test_undo_values_alone_can_go(files: MemoryFiles) -> None:
    run = a_run(files, "done")
    garbage = find_garbage(files, Wanted(OLD.before, undo_only=True), NOW)
    assert (garbage.runs, garbage.undo) == ([], ["runs/done/passes/0000/undo"])
    garbage.delete(files)
    assert list(files.names("runs/done/passes/0000/undo")) == []
    assert Runs(files).read("done") == run.spec
    assert jsonl.unpack_lines(files.read("runs/done/passes/0000/parts/00000000-00000.jsonl.gz"))


def test_grants_go_when_their_period_is_over_and_old(files: MemoryFiles) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    days = ["2026-08-23", "2026-08-24", "2026-11-20", "2026-11-21", "2026-11-22"]
    for period in ["2026-08", "2026-10", "2026-11", *days]:
        files.create(f"accounts/one/grants/{period}/00000001.json", b"{}")

    def gone(older_than: timedelta) -> list[str]:
        found = find_garbage(files, Wanted(now - older_than), now).grants
        return [folder.removeprefix("accounts/one/grants/") for folder in found]

    assert gone(timedelta(days=90)) == ["2026-08-23"]
    assert gone(timedelta(days=80)) == ["2026-08", "2026-08-23", "2026-08-24"]
    assert gone(timedelta(0)) == ["2026-08", "2026-08-23", "2026-08-24", "2026-10", "2026-11-20"]
    find_garbage(files, Wanted(now), now).delete(files)
    assert sorted(files.folders("accounts/one/grants")) == ["2026-11", "2026-11-21", "2026-11-22"]


def nights(files: MemoryFiles, images: int, count: int) -> Series:
    """An image more each time."""
    series = Series(files)
    for night in range(count):
        series.library.objects |= {f"{night}-{number}.jpg": "v1" for number in range(images)}
        series.run()
    return series


def test_what_another_policy_would_cost_once_a_run_is_gone_is_told(files: MemoryFiles) -> None:
    series = nights(files, 2, 2)
    series.library.objects = {name: etag for name, etag in series.library.objects.items() if name > "1"}
    series.run()
    garbage = find_garbage(files, OLD, NOW)
    first, second, third = garbage.describe().splitlines()[:3]
    assert first.startswith("run run-1: completed since ")
    assert second.endswith("; another tag policy would pay again for 2 images, whose answers it holds")
    assert [run["answers"] for run in garbage.to_json(deleted=False)["runs"]] == [0, 2, 0]
    assert "policy" not in first + third


def test_states_go_when_newer_ones_replaced_them_and_no_open_run_needs_them(files: MemoryFiles) -> None:
    series = nights(files, 1, 3)
    name = series.spec().state["name"]
    assert find_garbage(files, OLD, NOW).states == [f"state/{name}/00000002", f"state/{name}/00000001"]
    assert find_garbage(files, Wanted(NOW - timedelta(days=101)), NOW).states == []
    open_run = series.plan()
    series.run()
    garbage = find_garbage(files, OLD, NOW)
    assert garbage.states == [f"state/{name}/00000002", f"state/{name}/00000001"]
    garbage.delete(files)
    series.finish(open_run)
    assert series.run() == ([], {"unchanged": 3})
    assert min(files.folders(f"state/{name}")) == "00000003"


@dataclass
class Receiver:
    """A receiver and a listener on some days."""

    files: MemoryFiles
    today = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def day(self, ago: int) -> str:
        return f"{self.today - timedelta(days=ago):%Y%m%d}"

    def receive(self, *days_ago: int) -> None:
        for ago in days_ago:
            at = self.today - timedelta(days=ago)
            EventWriter(self.files).write([Event("main", at.isoformat(), ago, "fp.upload", {})], at)
            self.files.create(f"webhooks/quarantined/{self.day(ago)}/a.jsonl.gz", b"")

    def digest(self, *days_ago: int) -> None:
        for ago in days_ago:
            at = self.today - timedelta(days=ago)
            Digests(self.files, at).add(Digest({f"{self.day(ago)}/12/writer": 1}, [], {}), at)

    def listen(self, *days_ago: int) -> None:
        for ago in days_ago:
            Cursors(self.files, "uploads").keep({f"{self.day(ago)}/12/writer": 1})

    def past(self, older_than: int) -> dict[str, list[int]]:
        """By part of `webhooks/`, how many days ago what may go was received."""
        wanted = Wanted(self.today - timedelta(days=older_than))
        found: dict[str, list[int]] = {}
        for folder in find_garbage(self.files, wanted, self.today).webhooks:
            _, part, *_, day = folder.split("/")
            at = datetime.strptime(day, "%Y%m%d").replace(hour=12, tzinfo=UTC)
            found.setdefault(part, []).append((self.today - at).days)
        return found


def test_webhook_events_go_when_they_are_old_and_never_within_a_week(files: MemoryFiles) -> None:
    receiver = Receiver(files)
    for step in (receiver.receive, receiver.digest, receiver.listen):
        step(120, 91, 90, 8, 7, 0)
    old = {"received": [120, 91], "quarantined": [120, 91], "digests": [120, 91], "cursors": [120, 91]}
    assert receiver.past(90) == old
    assert receiver.past(0) == {part: [120, 91, 90, 8] for part in old}
    find_garbage(files, Wanted(receiver.today), receiver.today).delete(files)
    assert receiver.past(0) == {}
    assert Digests(files, receiver.today).newest(1)[-1].cursor == {f"{receiver.day(0)}/12/writer": 1}


def test_webhook_events_stay_until_all_have_read_them(files: MemoryFiles) -> None:
    receiver = Receiver(files)
    receiver.receive(120, 110, 100)
    assert "received" not in receiver.past(90)
    receiver.digest(120, 100)
    assert receiver.past(90) == {"received": [120, 110], "quarantined": [120, 110, 100], "digests": [120]}
    receiver.listen(120, 110)
    assert receiver.past(90)["received"] == [120]
    assert receiver.past(90)["cursors"] == [120]
    made = (receiver.today - timedelta(days=120)).isoformat()
    Runs(files).create(replace(a_spec("open"), created_at=made))
    assert "received" not in receiver.past(90)
