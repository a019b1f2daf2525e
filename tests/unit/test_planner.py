from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from fakes.files import Died, MemoryFiles, MortalFiles
from fakes.runs import RUN
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.planner import ChunkSizing, Planner
from tagmill.producer.planning import make_planner, refuse_empty, reopen_source
from tagmill.producer.sources.base import Cursor, Listed
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.worker.background import Background, Stopped
from tagmill.worker.errors import NotFoundError
from tagmill.worker.models import Handle, ImageRef, Json
from tagmill.worker.store.plan import Plan, PlanSummary
from tagmill.worker.store.runs import Runs, RunSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SHARD_SIZE = 10
SIZING = ChunkSizing(rate=100.0, fixed=4)


@dataclass
class Library:
    """Handles, and at every `gap`-th place something that is passed over."""

    size: int
    gap: int = 7
    dies_after: int | None = None
    at: Callable[[int], None] = lambda _: None  #: told the place of every item before it is listed

    def describe(self) -> str:
        return "a library"

    def list(self, after: Cursor) -> Iterator[Listed]:
        for place in range(after.get("place", 0), self.size):
            self.at(place)
            if place == self.dies_after:
                raise Died
            gap = place % self.gap == self.gap - 1
            ref = None if gap else ImageRef(Handle(f"h{place}"))
            yield Listed(ref, {"place": place + 1}, ("empty" if place % 2 else "extension") if gap else None)


def go_on() -> bool:
    return False


def planner_for(files: MemoryFiles, library: Library) -> Planner:
    def listing(after: Cursor, _planned: int) -> Iterable[Listed]:
        return library.list(after)

    return Planner(Plan(files, RUN, 0), listing, shard_size=SHARD_SIZE, sizing=SIZING)


def planned_ids(files: MemoryFiles) -> list[str]:
    plan = Plan(files, RUN, 0)
    chunks = [chunk for shard in plan.shards() for chunk in plan.header(shard).chunks(RUN, 0)]
    return [image.ref.id for chunk in chunks for image in plan.images(chunk)]


def undisturbed(size: int) -> dict[str, bytes]:
    files = MemoryFiles()
    planner_for(files, Library(size)).run(go_on)
    return files.contents


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


# --- what a plan holds ------------------------------------------------------------------------------------


def test_a_plan_holds_every_image_in_listing_order(files: MemoryFiles) -> None:
    summary = planner_for(files, Library(36)).run(go_on)
    assert planned_ids(files) == [f"filestack:h{place}" for place in range(36) if place % 7 != 6]
    assert summary == PlanSummary(4, 31, 36, {"empty": 2, "extension": 3}) == Plan(files, RUN, 0).summary()


def test_headers_say_where_a_shard_begins_and_where_to_go_on(files: MemoryFiles) -> None:
    planner_for(files, Library(36)).run(go_on)
    plan = Plan(files, RUN, 0)
    headers = [plan.header(shard) for shard in plan.shards()]
    assert [(header.first, header.count) for header in headers] == [(0, 10), (10, 10), (20, 10), (30, 1)]
    assert [header.cursor["place"] for header in headers] == [11, 23, 34, 36]
    assert all(header.listed == header.cursor["place"] for header in headers)
    assert {header.chunk_size for header in headers} == {4}


def test_an_empty_library_is_an_empty_plan(files: MemoryFiles) -> None:
    assert planner_for(files, Library(0)).run(go_on) == PlanSummary(0, 0, 0, {})


def test_the_same_library_gives_the_same_bytes() -> None:
    assert undisturbed(40) == undisturbed(40)


def test_a_finished_plan_is_not_made_again(files: MemoryFiles) -> None:
    first = planner_for(files, Library(20)).run(go_on)
    assert planner_for(files, Library(40)).run(go_on) == first


def test_what_is_held_in_memory_is_one_shard(files: MemoryFiles) -> None:
    held: list[int] = []

    def look(place: int) -> None:
        held.append(place - len([name for name in files.contents if "/plan/" in name]) * SHARD_SIZE)

    planner_for(files, Library(500, gap=1000, at=look)).run(go_on)
    assert max(held) <= SHARD_SIZE


# --- equal content ----------------------------------------------------------------------------------------


def searching(files: MemoryFiles, library: Library, found: Callable[[], Json | None]) -> Planner:
    def look(_stopped: Stopped) -> Json | None:
        assert Plan(files, RUN, 0).planned() == len(planned_ids(files))
        assert Plan(files, RUN, 0).summary() is None
        return found()

    listing = planner_for(files, library)._listing
    return Planner(Plan(files, RUN, 0), listing, shard_size=SHARD_SIZE, sizing=SIZING, search=look)


def test_equal_content_is_looked_for_when_all_is_listed(files: MemoryFiles) -> None:
    summary = searching(files, Library(30), lambda: {"images": 3, "bytes": 7}).run(go_on)
    assert summary is not None
    assert summary.duplicates == {"images": 3, "bytes": 7}
    assert Plan(files, RUN, 0).summary() == summary
    assert all(Plan(files, RUN, 0).header(shard).deduplicated for shard in Plan(files, RUN, 0).shards())


def test_stopped_while_it_looks_the_plan_is_finished_by_the_next(files: MemoryFiles) -> None:
    stopped = iter([False] * 31)
    assert searching(files, Library(30), lambda: None).run(lambda: next(stopped, True)) is None
    assert Plan(files, RUN, 0).summary() is None
    assert searching(files, Library(30), lambda: {"images": 0, "bytes": 0}).run(go_on) is not None


# --- killed, and gone on ----------------------------------------------------------------------------------

deaths = st.lists(
    st.tuples(st.just("listing"), st.integers(0, 60), st.booleans())
    | st.tuples(st.just("writing"), st.integers(1, 8), st.booleans()),
    max_size=6,
)


@given(size=st.integers(0, 60), deaths=deaths)
@settings(deadline=None)
def test_killed_anywhere_and_resumed_the_plan_is_the_undisturbed_one(
    size: int, deaths: list[tuple[str, int, bool]]
) -> None:
    files = MortalFiles()
    for where, nth, written in deaths:
        files.die_at(nth if where == "writing" else 0, written=written)
        with suppress(Died):
            planner_for(files, Library(size, dies_after=nth if where == "listing" else None)).run(go_on)
    files.die_at(0, written=False)
    planner_for(files, Library(size)).run(go_on)
    assert files.contents == undisturbed(size)


def test_killed_at_every_single_point_the_plan_is_the_undisturbed_one() -> None:
    for point in range(50):
        for written in (True, False):
            files = MortalFiles()
            files.die_at(point, written=written)
            with suppress(Died):
                planner_for(files, Library(45, dies_after=None if point else 45)).run(go_on)
            with suppress(Died):
                planner_for(files, Library(45, dies_after=point)).run(go_on)
            files.die_at(0, written=False)
            planner_for(files, Library(45)).run(go_on)
            assert files.contents == undisturbed(45)


def test_stopped_it_leaves_what_is_written_and_can_go_on(files: MemoryFiles) -> None:
    places: list[int] = []
    stopping = planner_for(files, Library(45, at=places.append))
    assert stopping.run(lambda: len(places) > 30) is None
    assert Plan(files, RUN, 0).shards() == [0, 1]
    assert planner_for(files, Library(45)).run(go_on) is not None
    assert files.contents == undisturbed(45)


def test_a_producer_that_was_stopped_before_it_began_writes_nothing(files: MemoryFiles) -> None:
    assert planner_for(files, Library(45)).run(lambda: True) is None
    assert files.contents == {}


def test_a_library_that_grew_meanwhile_is_planned_to_its_new_end(files: MemoryFiles) -> None:
    with suppress(Died):
        planner_for(files, Library(45, dies_after=30)).run(go_on)
    planner_for(files, Library(60)).run(go_on)
    assert files.contents == undisturbed(60)


def test_planned_images_that_are_gone_by_now_stay_planned(files: MemoryFiles) -> None:
    with suppress(Died):
        planner_for(files, Library(45, dies_after=30)).run(go_on)
    summary = planner_for(files, Library(5)).run(go_on)
    assert summary == PlanSummary(2, 20, 23, {"empty": 1, "extension": 2})
    assert planned_ids(files) == [f"filestack:h{place}" for place in range(23) if place % 7 != 6]


# --- two at once ------------------------------------------------------------------------------------------


@given(size=st.integers(0, 60), overtaken_at=st.integers(0, 60), ahead=st.integers(0, 60))
@settings(deadline=None)
def test_two_producers_at_once_make_the_plan_of_one(size: int, overtaken_at: int, ahead: int) -> None:
    files = MemoryFiles()

    def overtake(place: int) -> None:
        if place == overtaken_at:
            with suppress(Died):
                planner_for(files, Library(size, dies_after=ahead)).run(go_on)

    planner_for(files, Library(size, at=overtake)).run(go_on)
    assert files.contents == undisturbed(size)


def test_producers_on_threads_make_the_plan_of_one() -> None:
    files = MemoryFiles()
    start = threading.Barrier(4)

    def produce() -> None:
        start.wait()
        planner_for(files, Library(300)).run(go_on)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.contents == undisturbed(300)


def test_of_two_that_saw_different_libraries_each_shard_continues_the_one_before(files: MemoryFiles) -> None:
    def overtake(place: int) -> None:
        if place == 25:
            with suppress(Died):
                planner_for(files, Library(60, gap=5, dies_after=40)).run(go_on)

    planner_for(files, Library(60, at=overtake)).run(go_on)
    plan, ids = Plan(files, RUN, 0), planned_ids(files)
    assert len(ids) == len(set(ids)) == plan.planned()
    assert ids == sorted(ids, key=lambda image_id: int(image_id.removeprefix("filestack:h")))


def test_who_saw_less_does_not_end_the_plan_of_who_saw_more(files: MemoryFiles) -> None:
    def overtake(place: int) -> None:
        if place == 24:  # the last one that the slower producer sees
            with suppress(Died):
                planner_for(files, Library(60, dies_after=50)).run(go_on)

    planner_for(files, Library(25, at=overtake)).run(go_on)
    summary = Plan(files, RUN, 0).summary()
    assert summary is not None
    assert (summary.shards, summary.images) == (len(Plan(files, RUN, 0).shards()), len(planned_ids(files)))


# --- the size of a chunk ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "images", "size"),
    [
        (4.0, 10_000, 60),  # a minute at a quarter of the rate
        (100.0, 10_000, 1_000),
        (20.0, 10_000, 300),
        (20.0, 100, 25),  # work for four
        (0.01, 10_000, 10),
        (100.0, 3, 10),
    ],
)
def test_a_chunk_takes_about_a_minute_and_a_small_shard_is_work_for_several(
    rate: float, images: int, size: int
) -> None:
    assert ChunkSizing(rate).for_shard(images) == size


def test_a_fixed_size_is_the_size() -> None:
    assert ChunkSizing(100.0, fixed=3).for_shard(10_000) == 3


# --- the planner of a run ---------------------------------------------------------------------------------


def spec_of(source: SourceSpec) -> RunSpec:
    return RunSpec(
        RUN, "2026-11-22T00:00:00+00:00", source.to_json(), "fake", (), shard_size=SHARD_SIZE, chunk_size=4
    )


def plan_run(files: MemoryFiles, library: Library, spec: RunSpec) -> None:
    make_planner(Runs(files), spec, library).run(go_on)


@given(
    limit=st.none() | st.integers(1, 70),
    sample=st.none() | st.integers(1, 70),
    dies_after=st.lists(st.integers(0, 60), max_size=3),
)
@settings(deadline=None)
def test_limit_and_sample_hold_over_deaths(
    limit: int | None, sample: int | None, dies_after: list[int]
) -> None:
    spec = spec_of(SourceSpec(Kind.HANDLES, "-", limit=limit, sample=sample, seed=5 if sample else None))
    whole, files = MemoryFiles(), MemoryFiles()
    plan_run(whole, Library(60), spec)
    for place in dies_after:
        with suppress(Died):
            plan_run(files, Library(60, dies_after=place), spec)
    plan_run(files, Library(60), spec)
    assert files.contents == whole.contents
    assert len(planned_ids(files)) == min(52, limit or 52, sample or 52)


def test_a_sample_drawn_by_another_producer_counts(files: MemoryFiles) -> None:
    spec = spec_of(SourceSpec(Kind.HANDLES, "-", sample=5, seed=5))
    whole = MemoryFiles()
    plan_run(whole, Library(60), spec)

    def overtake(place: int) -> None:
        if place == 1 and not files.contents:
            plan_run(files, Library(60), spec)

    plan_run(files, Library(30, at=overtake), spec)
    assert files.contents == whole.contents


def test_the_planned_rate_decides_where_no_size_is_fixed(files: MemoryFiles) -> None:
    spec = RunSpec(RUN, "", SourceSpec(Kind.HANDLES, "-").to_json(), "fake", (), planned_rate=4.0)
    plan_run(files, Library(1_000, gap=2_000), spec)
    assert Plan(files, RUN, 0).header(0).chunk_size == 60


def test_a_list_is_read_from_its_copy_in_the_run(files: MemoryFiles) -> None:
    runs = Runs(files)
    runs.keep_input(RUN, "list.txt", b"AbCdEfGhIjKlMnOpQr01\nAbCdEfGhIjKlMnOpQr02\n")
    value = SourceSpec(Kind.HANDLES, "-").to_json()
    value["input"] = {"name": "list.txt", "format": "txt", "field": "handle"}
    spec = RunSpec(RUN, "", value, "fake", ())

    source = reopen_source(runs, spec, no_s3)
    assert [item.ref.id for item in source.list({}) if item.ref] == [
        "filestack:AbCdEfGhIjKlMnOpQr01",
        "filestack:AbCdEfGhIjKlMnOpQr02",
    ]


def no_s3() -> S3Client:
    raise AssertionError("a list needs no S3")


def test_a_library_without_images_is_refused_with_what_was_passed_over() -> None:
    refuse_empty(Library(2))
    with pytest.raises(NotFoundError, match=r"no images in a library$"):
        refuse_empty(Library(0))
    with pytest.raises(NotFoundError, match=r"no images in a library \(passed over: 2 empty, 3 extension\)"):
        refuse_empty(Library(5, gap=1))


# --- on its thread ----------------------------------------------------------------------------------------


def test_the_thread_plans_to_the_end(files: MemoryFiles) -> None:
    with Background(planner_for(files, Library(45)).run, "planner") as thread:
        thread.join()
    assert files.contents == undisturbed(45)


def test_leaving_stops_planning_and_what_is_written_stays(files: MemoryFiles) -> None:
    listed, left = threading.Event(), threading.Event()

    def wait(place: int) -> None:
        if place == 25:
            listed.set()
            left.wait()

    thread = Background(planner_for(files, Library(10_000, at=wait)).run, "planner")
    with thread:
        listed.wait()
        thread._stopped.set()
        left.set()
    thread.raise_error()
    assert Plan(files, RUN, 0).shards() == [0, 1]
    assert Plan(files, RUN, 0).summary() is None


def test_what_ended_planning_is_raised_where_it_is_waited_for(files: MemoryFiles) -> None:
    def fail(place: int) -> None:
        if place == 15:
            raise NotFoundError("the bucket is gone")

    with Background(planner_for(files, Library(45, at=fail)).run, "planner") as thread:
        with pytest.raises(NotFoundError, match="the bucket is gone"):
            thread.join()
        with pytest.raises(NotFoundError):
            thread.raise_error()
