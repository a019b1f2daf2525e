from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.files import MemoryFiles
from fakes.runs import SmallRun, a_spec
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tagmill.worker.errors import ConfigError
from tagmill.worker.events import Event, Verdict
from tagmill.worker.frontier import Frontier
from tagmill.worker.models import Chunk, Handle, ImageRef
from tagmill.worker.rows import ref_of
from tagmill.worker.store.event_runs import SEAL_AFTER, EventLog, EventRuns, is_over
from tagmill.worker.store.layout import pass_folder
from tagmill.worker.store.plan import Plan, Planned
from tagmill.worker.store.runs import Runs

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RUN_AT_NOON, RUN_AT_ONE = "events-uploads-20261122t12z", "events-uploads-20261122t13z"
TEMPLATE = a_spec(embedded=False, lane="events", warnings=["one"], policy={"stop": ("a", "b")})


class World:
    """A store, a clock, and the writers that share them."""

    def __init__(self, files: MemoryFiles | None = None) -> None:
        self.files = files or MemoryFiles()
        self.now = NOON

    def writer(self, **spec: Any) -> EventRuns:
        template = dataclasses.replace(TEMPLATE, **spec)
        return EventRuns(self.files, template, "uploads", clock=lambda: self.now)

    def planned(self) -> dict[str, list[str]]:
        """Ids of the images that each run's plan holds."""
        return {run_id: list(self._ids(run_id)) for run_id in Runs(self.files).ids()}

    def hours(self) -> dict[str, list[int]]:
        """In which hours each image was planned."""
        planned = [(id_, int(run_id[-3:-1])) for run_id, ids in self.planned().items() for id_ in ids]
        return {id_: [hour for one, hour in planned if one == id_] for id_, _ in planned}

    def seal(self) -> None:
        for run_id in Runs(self.files).ids():
            EventLog(self.files, run_id).seal()

    def _ids(self, run_id: str) -> Iterator[str]:
        plan = Plan(self.files, run_id, 0)
        for shard in plan.shards():
            for chunk in plan.header(shard).chunks(run_id, 0):
                yield from (planned.ref.id for planned in plan.images(chunk))


def event(name: str, order: str = "", mark: str = "") -> Event:
    return Event(name, Planned(ImageRef(Handle(name))), order, mark)


@pytest.fixture
def world() -> World:
    return World()


def test_an_hour_of_events_is_an_ordinary_run(world: World) -> None:
    writer = world.writer()
    assert world.planned() == {}
    assert writer.append([event("a"), event("b")]).run_id == RUN_AT_NOON
    assert writer.append([event("c")]).run_id == RUN_AT_NOON

    spec = Runs(world.files).read(RUN_AT_NOON)
    assert (spec.embedded, spec.lane, spec.open_until) == (False, "events", "2026-11-22T13:00:00+00:00")
    assert world.planned() == {RUN_AT_NOON: ["filestack:a", "filestack:b", "filestack:c"]}
    chunks = Frontier(world.files, RUN_AT_NOON, 0).window(100)
    assert [(chunk.shard, chunk.count) for chunk in chunks] == [(0, 2), (1, 1)]


def test_the_next_hour_is_another_run(world: World) -> None:
    writer = world.writer()
    writer.append([event("a")])
    world.now += timedelta(hours=1)
    writer.append([event("b")])
    assert world.planned() == {RUN_AT_NOON: ["filestack:a"], RUN_AT_ONE: ["filestack:b"]}


def test_what_comes_after_the_seal_goes_into_the_next_hour(world: World) -> None:
    early, late = world.writer(), world.writer()
    early.append([event("a")])
    EventLog(world.files, RUN_AT_NOON).seal()
    assert late.append([event("b")]).run_id == RUN_AT_ONE
    assert early.append([event("c")]).run_id == RUN_AT_ONE

    summary = Plan(world.files, RUN_AT_NOON, 0).summary()
    assert summary is not None
    assert (summary.shards, summary.images) == (2, 1)


def test_a_sealed_run_is_over_when_its_images_are(world: World) -> None:
    world.writer().append([event("a")])
    EventLog(world.files, RUN_AT_NOON).seal()
    frontier = Frontier(world.files, RUN_AT_NOON, 0)
    assert [(chunk.shard, chunk.count) for chunk in frontier.window(10)] == [(0, 1)]
    assert [header.shard for header in frontier.whole_shards()] == [1]


def test_sealing_goes_on_where_a_dead_sealer_stopped(world: World) -> None:
    world.writer().append([event("a")])
    EventLog(world.files, RUN_AT_NOON).seal()
    del world.files.contents[f"runs/{RUN_AT_NOON}/passes/0000/plan.json"]
    assert world.writer().append([event("b")]).run_id == RUN_AT_ONE
    EventLog(world.files, RUN_AT_NOON).seal()
    summary = Plan(world.files, RUN_AT_NOON, 0).summary()
    assert summary is not None
    assert (summary.shards, summary.images) == (2, 1)


def test_an_hour_is_over_some_time_after_its_end() -> None:
    spec = dataclasses.replace(TEMPLATE, open_until="2026-11-22T13:00:00+00:00")
    end = datetime(2026, 11, 22, 13, tzinfo=UTC)
    assert [is_over(spec, end), is_over(spec, end + SEAL_AFTER)] == [False, True]
    assert not is_over(TEMPLATE, end + SEAL_AFTER)


def test_the_next_hour_begins_when_the_last_one_has_ended(world: World) -> None:
    early, late = world.writer(), world.writer()
    early.append([event("a")])
    world.now += timedelta(hours=3)
    late.append([event("b")])
    summary = Plan(world.files, RUN_AT_NOON, 0).summary()
    assert summary is not None
    assert summary.images == 1


def test_duplicates_and_what_a_newer_event_settles_are_left_out(world: World) -> None:
    writer = world.writer()
    told = [writer.append([event("a", order)]).verdicts for order in ("2", "2", "1", "3")]
    assert told == [Counter({verdict: 1}) for verdict in ("new", "duplicate", "outdated", "new")]
    assert writer.append([event("b", "1"), event("b", "2"), event("b", "1")]).verdicts == {Verdict.NEW: 1}
    assert world.planned() == {RUN_AT_NOON: ["filestack:a", "filestack:a", "filestack:b"]}


def test_a_server_that_counts_badly_is_told_by_marks(world: World) -> None:
    writer = world.writer()
    told = [writer.append([event("a", "1", mark)]).verdicts for mark in ("x", "y", "y")]
    assert told == [Counter({verdict: 1}) for verdict in ("new", "new", "duplicate")]


def test_another_writer_and_one_that_starts_anew_know_what_was_written(world: World) -> None:
    first, second = world.writer(), world.writer()
    first.append([event("a", "2")])
    assert second.append([event("a", "2"), event("b", "1")]).verdicts == {"duplicate": 1, "new": 1}
    assert first.append([event("b", "0")]).verdicts == {"outdated": 1}
    world.now += timedelta(hours=1)
    assert world.writer().append([event("a", "1")]).verdicts == {"outdated": 1}
    assert set(world.planned()) == {RUN_AT_NOON}


def test_what_is_due_again_and_again_is_stopped_for_an_hour(world: World) -> None:
    writer = world.writer()
    told: list[Verdict] = []
    for order in range(5):
        told += writer.append([event("a", f"{order}")]).verdicts
        world.now += timedelta(minutes=10)
    assert told == ["new", "new", "new", "too_often", "too_often"]
    world.now += timedelta(minutes=30)
    assert writer.append([event("a", "9")]).verdicts == {"new": 1}


def test_an_image_may_bring_its_answer(world: World) -> None:
    other = SmallRun(world.files)
    other.shard(2, 2)
    row = other.rows(other.chunks[0])[1]
    writer = world.writer()
    writer.append([event("a")])
    writer.append([event("b"), Event("job", Planned(ref_of(row), row))])

    [_, planned] = Plan(world.files, RUN_AT_NOON, 0).images(Chunk(RUN_AT_NOON, 0, 1, 0, 2))
    assert planned.row is not None
    assert (planned.ref, planned.place, planned.row["run_id"]) == (ref_of(row), (1, 1), RUN_AT_NOON)
    assert (planned.row["raw_tags"], planned.row["calls"]) == (row["raw_tags"], 0)


def test_a_writer_with_other_settings_hears_that_they_wait(world: World) -> None:
    world.writer().append([event("a")])
    with capture_logs() as logs:
        world.writer().append([event("c")])
        world.writer(rate="7/s").append([event("b")])
    assert [(entry["event"], entry["run_id"]) for entry in logs] == [
        ("event_run_has_other_settings", RUN_AT_NOON)
    ]


def test_the_run_of_an_hour_is_made_once_and_known_from_then_on(world: World) -> None:
    world.writer().append([event("a")])
    writer = world.writer(rate="7/s")
    with capture_logs() as logs:
        for name in ("b", "c"):
            writer.append([event(name)])
    assert [entry["event"] for entry in logs] == ["event_run_has_other_settings"]
    assert writer.made == RUN_AT_NOON


def test_the_run_is_prepared_before_it_is_made(world: World) -> None:
    seen: list[tuple[str, bool]] = []

    def prepare(run_id: str) -> None:
        seen.append((run_id, Runs(world.files).is_free(run_id)))

    writer = EventRuns(world.files, TEMPLATE, "uploads", prepare=prepare, clock=lambda: world.now)
    writer.append([event("a")])
    writer.append([event("b")])
    assert seen == [(RUN_AT_NOON, True)]


def test_an_hour_whose_run_was_only_begun_comes_to_its_end_with_the_next_one(world: World) -> None:
    world.files.create(f"{pass_folder(RUN_AT_NOON, 0)}/pass.json", b"{}")
    world.now += timedelta(hours=1)
    world.writer().append([event("a")])
    assert Runs(world.files).read(RUN_AT_NOON).open_until == "2026-11-22T13:00:00+00:00"
    assert world.planned() == {RUN_AT_NOON: [], RUN_AT_ONE: ["filestack:a"]}
    summary = Plan(world.files, RUN_AT_NOON, 0).summary()
    assert summary is not None
    assert summary.images == 0


def test_runs_of_other_names_are_no_earlier_hours(world: World) -> None:
    others = ["events-uploads-00000000t99z", "events-uploads-2-20261122t11z", "events-uploads-some-own-id"]
    for run_id in others:
        world.files.create(f"{pass_folder(run_id, 0)}/pass.json", b"{}")
    world.writer().append([event("a")])
    assert not any(Plan(world.files, run_id, 0).shards() for run_id in others)


@pytest.mark.parametrize("name", ["Uploads", "a b", "a" * 60])
def test_a_name_that_makes_no_run_is_refused(world: World, name: str) -> None:
    with pytest.raises(ConfigError, match="of hourly runs"):
        EventRuns(world.files, TEMPLATE, name)


# --- whatever happens between two steps -------------------------------------------------------------------


class Interrupted(MemoryFiles):
    """Lets others act just before it is asked for something."""

    def __init__(self) -> None:
        super().__init__()
        self.others: Callable[[], None] = lambda: None

    def create(self, name: str, data: bytes) -> bool:
        self.others()
        return super().create(name, data)

    def read(self, name: str) -> bytes:
        self.others()
        return super().read(name)

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        self.others()
        return super().names(prefix, after)


NAMES = st.lists(st.sampled_from([f"h{number}" for number in range(6)]), min_size=1, max_size=3)
ACTS = st.sampled_from(["nothing", "write", "write", "seal", "later", "restart"])
WRITERS = st.integers(0, 2)


@given(
    told=st.lists(st.tuples(WRITERS, NAMES), min_size=1, max_size=4),
    between=st.lists(st.tuples(ACTS, WRITERS, NAMES), max_size=60),
)
def test_no_event_is_lost_or_doubled_however_writers_and_sealers_meet(
    told: list[tuple[int, list[str]]], between: list[tuple[str, int, list[str]]]
) -> None:
    """Each of `between` happens just before one of the others' steps; writes among them are met by more."""
    files = Interrupted()
    world, script, durable, busy = World(files), iter(between), set[str](), set[int]()
    writers = [world.writer() for _ in range(3)]

    def write(who: int, names: list[str]) -> None:
        if who not in busy:
            busy.add(who)
            writers[who].append([event(name) for name in names])
            busy.discard(who)
            durable.update(f"filestack:{name}" for name in names)

    def others() -> None:
        what, who, names = next(script, ("nothing", 0, []))
        if what == "write":
            write(who, names)
        elif what == "seal":
            world.seal()
        elif what == "later" and world.now.hour == NOON.hour:
            world.now += timedelta(minutes=20)
        elif what == "restart" and who not in busy:
            writers[who] = world.writer()

    write(0, ["h0"])  # an hour of which nobody wrote has nothing to seal
    files.others = others
    for who, names in told:
        write(who, names)
    files.others = lambda: None
    world.seal()

    assert set(world.hours()) == durable
    for hours in world.hours().values():
        assert all(later - earlier > 1 for earlier, later in itertools.pairwise(hours))
