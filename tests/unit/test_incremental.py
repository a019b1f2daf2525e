"""Runs over a source that an earlier run knew: exactly what has to be asked for is asked for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from fakes.files import Died, MemoryFiles, MortalFiles
from fakes.libraries import Library, Series, key_of, tagged, written
from fakes.runs import REFUSED
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.adopting import events_since
from tagmill.producer.preparation import RunOptions
from tagmill.worker import remembering
from tagmill.worker.errors import RunError
from tagmill.worker.models import Failure, ImageRef, Outcome, S3Object, Status, Write, WriteStatus
from tagmill.worker.store.departures import Departures
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Runs, RunSpec

ALL, CHANGED, MISSING = (RunOptions(mode=mode) for mode in ("all", "changed", "missing"))
KEYS = [f"{number:02d}.jpg" for number in range(25)]


@pytest.fixture
def series() -> Series:
    return Series(MemoryFiles(), Library(dict.fromkeys(KEYS, "v1")))


def failed(_: Planned) -> Outcome:
    gave_up = Failure("EngineUnavailableError", "unavailable", "no answer")
    return Outcome(Status.FAILED, error=gave_up, attempts=1, calls=1)


# --- what is asked for ------------------------------------------------------------------------------------


def test_the_state_of_a_listing_is_written_without_sorting(
    series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large library the temporary files would be tens of gigabytes."""
    monkeypatch.delattr(remembering, "scratch_database")
    assert series.run()[0] == KEYS
    assert [known.id for known in series.state.known()] == [f"s3://bucket/{key}" for key in KEYS]


def test_the_first_run_asks_for_all_and_the_next_for_nothing(series: Series) -> None:
    assert series.run()[0] == KEYS
    assert series.run() == ([], {"unchanged": len(KEYS)})
    assert series.run(MISSING) == ([], {"unchanged": len(KEYS)})
    assert series.run(ALL) == (KEYS, {"again": len(KEYS)})


def test_new_and_changed_images_are_asked_for_and_what_disappeared_is_told(series: Series) -> None:
    series.run()
    series.library.objects |= {"03.jpg": "v2", "zz.jpg": "v1", "0.jpg": "v1"}
    del series.library.objects["07.jpg"]
    spec = series.plan()
    assert [(key_of(image), image.ref.fresh) for image in series.planned(spec)] == [
        ("0.jpg", False),
        ("03.jpg", True),
        ("zz.jpg", False),
    ]
    assert series.found(spec) == {"new": 2, "changed": 1, "disappeared": 1, "unchanged": len(KEYS) - 2}
    series.finish(spec)
    gone = [known.id for known in Departures(series.files, spec.run_id).known()]
    assert gone == ["s3://bucket/07.jpg"]
    assert series.files.exists(f"runs/{spec.run_id}/disappeared.jsonl.gz")
    assert series.run() == ([], {"unchanged": len(KEYS) + 1})


def test_a_changed_image_is_not_missing(series: Series) -> None:
    series.run()
    series.library.objects |= {"03.jpg": "v2", "new.jpg": "v1"}
    assert series.run(MISSING)[0] == ["new.jpg"]
    assert series.run(CHANGED)[0] == ["03.jpg"]


def test_our_own_copy_is_no_change_whatever_it_does_to_the_etag(series: Series) -> None:
    series.run(
        outcome=lambda image: replace(tagged(image), writes=written("copied")), write_back=("metadata",)
    )
    series.library.objects = dict.fromkeys(KEYS, "copied")
    assert series.run(write_back=("metadata",)) == ([], {"unchanged": len(KEYS)})
    series.library.objects["04.jpg"] = "somebody else's"
    assert series.run(write_back=("metadata",))[0] == ["04.jpg"]


def test_what_failed_is_asked_for_again_and_stays_fresh(series: Series) -> None:
    series.run()
    series.library.objects["03.jpg"] = "v2"
    assert series.run(outcome=failed)[0] == ["03.jpg"]
    spec = series.plan(MISSING)
    assert [(key_of(image), image.ref.fresh) for image in series.planned(spec)] == [("03.jpg", True)]
    assert series.found(spec)["failed"] == 1


@pytest.mark.parametrize("status", [Status.SKIPPED, Status.QUARANTINED])
def test_what_is_no_image_or_deadly_is_left_alone_until_it_changes(series: Series, status: Status) -> None:
    series.run(outcome=lambda _: Outcome(status, error=REFUSED))
    assert series.run() == ([], {"unchanged": len(KEYS)})
    series.library.objects["03.jpg"] = "v2"
    assert series.run()[0] == ["03.jpg"]


def test_what_a_cancelled_run_did_not_reach_is_as_it_was(series: Series) -> None:
    series.run()
    series.library.objects["03.jpg"] = "v2"
    assert series.run(outcome=lambda _: Outcome(Status.CANCELLED))[0] == ["03.jpg"]
    assert series.run()[0] == ["03.jpg"]


def test_another_way_of_asking_pays_for_all_again(series: Series) -> None:
    series.run()
    assert series.run(tags_version=1) == (KEYS, {"reconfigured": len(KEYS)})
    assert series.run(tags_version=1)[0] == []
    assert series.run(MISSING)[0] == []


def test_what_was_answered_long_ago_is_asked_for_anew(series: Series) -> None:
    series.run(outcome=lambda image: replace(tagged(image), tagged_at="2026-08-01T00:00:00Z"))
    assert series.run(RunOptions(retag_older_than=200 * 86_400.0))[0] == []
    spec = series.plan(RunOptions(retag_older_than=90 * 86_400.0))
    assert {image.ref.fresh for image in series.planned(spec)} == {True}
    series.finish(spec)
    assert series.found(spec) == {"old": len(KEYS)}
    assert series.run(RunOptions(retag_older_than=90 * 86_400.0))[0] == []


def test_tags_that_another_run_left_count_and_its_answer_is_kept(series: Series) -> None:
    marked = Outcome(Status.SKIPPED, error=replace(REFUSED, code="already_tagged"))
    series.run()
    series.run(ALL, outcome=lambda _: marked)
    assert series.run() == ([], {"unchanged": len(KEYS)})
    assert {known.run for known in series.state.known()} == {"run-1"}


def test_what_the_listing_passes_over_stays_known(series: Series) -> None:
    series.run()
    series.library.passed_over = {"03.jpg"}
    assert series.run() == ([], {"unchanged": len(KEYS) - 1})
    series.library.passed_over = set()
    assert series.run() == ([], {"unchanged": len(KEYS)})


def test_an_emptied_source_is_told_of_whole(series: Series) -> None:
    series.run()
    series.library.objects = {}
    assert series.run() == ([], {"disappeared": len(KEYS)})
    assert list(series.state.known()) == []


def test_a_listing_that_fails_on_the_way_makes_nothing_disappear(series: Series) -> None:
    series.run()
    series.library.dies_before = "03.jpg"
    spec = series.spec()
    with pytest.raises(RunError):
        series.planner(spec).run(lambda: False)
    assert list(Departures(series.files, spec.run_id).known()) == []
    assert series.run(MISSING)[1] == {"unchanged": len(KEYS)}


# --- answers once more ------------------------------------------------------------------------------------


def test_another_policy_costs_no_call_and_is_written(series: Series) -> None:
    series.run()
    policy = {"min_confidence": 98}
    spec = series.plan(policy=policy)
    series.finish(spec)
    rows = series.rows(spec.run_id)
    assert series.found(spec) == {"reapplied": len(KEYS)}
    assert {(row["status"], row["calls"], row["run_id"]) for row in rows} == {("tagged", 0, spec.run_id)}
    assert [(row["shard"], row["index"]) for row in rows] == [divmod(place, 10) for place in range(25)]
    assert {(*row["tags"]["auto"],) for row in rows} == {()}
    assert {(*row["raw_tags"]["auto"],) for row in rows} == {("sky",)}
    assert series.run(policy=policy) == ([], {"unchanged": len(KEYS)})


def test_another_place_and_a_write_that_failed_are_made_up_for_without_a_call(series: Series) -> None:
    series.run()
    written_badly = {"metadata": Write(WriteStatus.FAILED, reason="x")}
    asked, found = series.run(
        outcome=lambda image: replace(tagged(image), writes=written_badly), write_back=("metadata",)
    )
    assert (asked, found) == ([], {"reapplied": len(KEYS)})
    repaired = lambda image: replace(tagged(image), writes=written("v1"))  # noqa: E731 - only here
    assert series.run(outcome=repaired, write_back=("metadata",)) == ([], {"reapplied": len(KEYS)})
    assert series.run(write_back=("metadata",)) == ([], {"unchanged": len(KEYS)})


def test_an_answer_that_is_gone_with_its_run_is_asked_for(series: Series) -> None:
    series.run()
    series.files.remove_below("runs/run-1")
    assert series.run(policy={"min_confidence": 98}) == (KEYS, {"lost": len(KEYS)})


def test_answers_of_several_runs_are_found(series: Series) -> None:
    series.run()
    series.library.objects |= {"03.jpg": "v2", "24.jpg": "v2", "zz.jpg": "v1"}
    series.run()
    assert series.run(policy={"prefix": "p-"}) == ([], {"reapplied": len(KEYS) + 1})


# --- beside event runs ------------------------------------------------------------------------------------


def event_run(series: Series, hour: int, objects: dict[str, str]) -> None:
    """A finished run of one hour that tagged these."""
    spec = RunSpec(
        f"events-uploads-20261123t{hour:02d}z", f"2026-11-23T{hour:02d}:00:00+00:00", {}, "filestack", ()
    )
    Runs(series.files).create(spec)
    images = [Planned(ImageRef(S3Object("bucket", key, etag, 7))) for key, etag in objects.items()]
    plan = Plan(series.files, spec.run_id, 0)
    plan.write(ShardHeader(0, len(images), 0, 10, {}, len(images)), images)
    plan.finish(PlanSummary(1, len(images), len(images), {}))
    at = f"2026-11-23T{hour:02d}:10:00Z"
    series.finish(spec, lambda image: replace(tagged(image), tagged_at=at))


def test_what_an_event_run_tagged_since_is_taken_over_without_a_call(series: Series) -> None:
    series.run()
    event_run(series, 7, {"new.jpg": "v1", "03.jpg": "v2", "04.jpg": "v2", "deleted.jpg": "v1"})
    series.library.objects |= {"new.jpg": "v1", "03.jpg": "v2", "04.jpg": "v3"}
    spec = series.plan()
    assert series.found(spec) == {"adopted": 2, "changed": 1, "unchanged": len(KEYS) - 2}
    assert [(key_of(image), image.row is None) for image in series.planned(spec)] == [
        ("03.jpg", False),
        ("04.jpg", True),
        ("new.jpg", False),
    ]
    series.finish(spec)
    assert sum(row["calls"] for row in series.rows(spec.run_id)) == 1
    assert series.run() == ([], {"unchanged": len(KEYS) + 1})
    assert series.run(policy={"prefix": "p-"}) == ([], {"reapplied": len(KEYS) + 1})


def test_event_runs_are_read_once_and_only_when_they_have_ended(series: Series) -> None:
    series.run()
    event_run(series, 7, {"new.jpg": "v1"})
    Runs(series.files).create(
        RunSpec("events-uploads-20261123t08z", "2026-11-23T08:00:00+00:00", {}, "f", ())
    )
    first, second = series.plan(), series.plan()
    assert events_since(Runs(series.files), first) == ["events-uploads-20261123t07z"]
    series.finish(first)
    event_run(series, 9, {"later.jpg": "v1"})
    assert events_since(Runs(series.files), second) == ["events-uploads-20261123t07z"]
    assert events_since(Runs(series.files), series.plan()) == ["events-uploads-20261123t09z"]


# --- killed -----------------------------------------------------------------------------------------------


@given(
    before=st.dictionaries(st.integers(0, 40), st.sampled_from("ab")),
    now=st.dictionaries(st.integers(0, 40), st.sampled_from("ab")),
    deaths=st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=3),
)
@settings(max_examples=80)
def test_planned_is_what_differs_however_often_the_planner_is_killed(
    before: dict[int, str], now: dict[int, str], deaths: list[tuple[int, bool]]
) -> None:
    files = MortalFiles()
    series = Series(files, Library({f"{key:02d}": etag for key, etag in before.items()}), shard_size=3)
    series.run()
    series.library.objects = {f"{key:02d}": etag for key, etag in now.items()}
    spec = series.spec()
    for nth, was_written in deaths:
        files.die_at(nth, written=was_written)
        with suppress(Died):
            series.planner(spec).run(lambda: False)
    files.die_at(0, written=False)
    series.planner(spec).run(lambda: False)

    assert [key_of(image) for image in series.planned(spec)] == [
        f"{key:02d}" for key in sorted(now) if now[key] != before.get(key)
    ]
    gone = sorted(before.keys() - now.keys())
    assert [known.id for known in Departures(files, spec.run_id).known()] == [
        f"s3://bucket/{key:02d}" for key in gone
    ]
    expected = {
        "new": len(now.keys() - before.keys()),
        "changed": sum(now[key] != before[key] for key in now.keys() & before.keys()),
        "unchanged": sum(now[key] == before[key] for key in now.keys() & before.keys()),
        "disappeared": len(gone),
    }
    if before:
        assert series.found(spec) == {why: count for why, count in expected.items() if count}
    assert Plan(files, spec.run_id, 0).planned() == len(series.planned(spec))


@given(deaths=st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=4))
@settings(max_examples=60)
def test_killed_while_it_ends_a_run_leaves_the_same_state(deaths: list[tuple[int, bool]]) -> None:
    files = MortalFiles()
    series = Series(files, Library(dict.fromkeys(KEYS, "v1")))
    series.run()
    series.library.objects |= {"03.jpg": "v2", "zz.jpg": "v1"}
    del series.library.objects["07.jpg"]
    spec = series.plan()
    for nth, was_written in deaths:
        files.die_at(nth, written=was_written)
        with suppress(Died):
            series.finish(spec)
    files.die_at(0, written=False)
    series.finish(spec)
    known = {one.id.removeprefix("s3://bucket/"): one for one in series.state.known()}
    assert list(known) == sorted(series.library.objects)
    assert {key for key, one in known.items() if one.run == spec.run_id} == {"03.jpg", "zz.jpg"}
    assert series.state.number == 2
    kept = dict(files.contents)
    series.compact(spec)
    assert files.contents == kept


def test_two_runs_at_once_lose_nothing_of_each_other(series: Series) -> None:
    series.run()
    series.library.objects["a.jpg"] = "v1"
    first = series.plan()
    series.library.objects["b.jpg"] = "v1"
    second = series.plan()
    series.finish(second)
    series.finish(first)
    assert series.run() == ([], {"unchanged": len(KEYS) + 2})
