"""What every sink promises, over the fake and the real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
from fakes.taggings import LABELLED, OTHER_ANSWER, TAGGING
from servers.real_s3 import RealBucket, named_bucket
from servers.s3 import S3UnderTest
from servers.sink_places import (
    AnnotationPlace,
    FakePlace,
    MetadataPlace,
    Place,
    S3Place,
    S3SidecarPlace,
    SidecarPlace,
    TagsPlace,
)
from servers.strict_s3 import running_strict_s3

from tagmill.worker.models import Handle, ImageRef, Write, WriteStatus
from tagmill.worker.sinks.base import Tagged, Tagging, Written

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def strict() -> Iterator[tuple[S3Client, Callable[[], str]]]:
    with running_strict_s3() as server:
        yield server.client(), server.new_bucket


@pytest.fixture(scope="module")
def moto(s3_server: S3UnderTest) -> tuple[S3Client, Callable[[], str]]:
    return s3_server.client(), s3_server.bucket


SINKS: dict[str, type[S3Place]] = {
    "metadata": MetadataPlace,
    "tags": TagsPlace,
    "annotation": AnnotationPlace,
    "s3_sidecar": S3SidecarPlace,
}
#: Named by `make test-s3`, and then the one that the promises are tried on.
REAL = named_bucket()
PLACES = (
    ["fake", "sidecar", *(f"{sink}-{server}" for sink in SINKS for server in ("strict", "moto"))]
    if REAL is None
    else [f"{sink}-real" for sink in SINKS]
)
#: Both know no annotations: what becomes of one there is the matter of other tests.
if REAL is None or not REAL.found.annotations:
    PLACES.remove("annotation-moto" if REAL is None else "annotation-real")


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = _place(request, tmp_path)
    yield place
    await place.sink.aclose()


@pytest.fixture(scope="module")
def real() -> Iterator[RealBucket]:
    assert REAL is not None
    yield REAL
    REAL.clean_up()


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    match request.param.split("-"):
        case ["fake"]:
            return FakePlace()
        case ["sidecar"]:
            return SidecarPlace(tmp_path)
        case [sink, "real"]:
            real: RealBucket = request.getfixturevalue("real")
            return SINKS[sink](real.client, real.bucket, real.prefix, real.found)
    sink, server = request.param.split("-")
    client, new_bucket = request.getfixturevalue(server)
    return SINKS[sink](client, new_bucket())


class Kept:
    """The `keep` of a test: what was kept, and how many mutations there had been by then."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.records: list[Mapping[str, Any]] = []
        self.mutations_before: list[int] = []

    async def __call__(self, values: Mapping[str, Any]) -> None:
        self.mutations_before.append(self._place.mutations())
        self.records.append(values)


async def test_a_write_says_the_tags(place: Place) -> None:
    write = await place.sink.write(place.ref, TAGGING, Kept(place))
    assert write.status is WriteStatus.WRITTEN
    assert place.labels() == {"sky": 97, "no person": 88}


async def test_a_repeated_write_changes_nothing(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    mutations, kept = place.mutations(), Kept(place)
    write = await place.sink.write(place.ref, TAGGING, kept)
    assert (write.status, place.mutations(), kept.records) == (WriteStatus.UNCHANGED, mutations, [])


async def test_another_run_with_the_same_answer_changes_nothing(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    mutations = place.mutations()
    write = await place.sink.write(place.ref, replace(TAGGING, run_id="run-two"), Kept(place))
    assert (write.status, place.mutations()) == (WriteStatus.UNCHANGED, mutations)


async def test_another_answer_replaces_the_first(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    write = await place.sink.write(place.ref, OTHER_ANSWER, Kept(place))
    assert write.status is WriteStatus.WRITTEN
    assert place.labels() == {"sea": 55}


async def test_the_first_write_keeps_that_nothing_was_there(place: Place) -> None:
    kept = Kept(place)
    await place.sink.write(place.ref, TAGGING, kept)
    assert [record["sink"] for record in kept.records] == [place.sink.name]
    assert "sky" not in json.dumps(kept.records)


async def test_previous_values_are_kept_before_they_are_replaced(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    mutations, kept = place.mutations(), Kept(place)
    await place.sink.write(place.ref, OTHER_ANSWER, kept)
    assert kept.mutations_before == [mutations]
    assert "sky" in json.dumps(kept.records)


async def test_a_run_keeps_none_of_its_own_values(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    kept = Kept(place)
    await place.sink.write(place.ref, replace(OTHER_ANSWER, run_id=TAGGING.run_id), kept)
    assert (kept.records, place.labels()) == ([], {"sea": 55})


async def test_nothing_is_written_when_nothing_can_be_kept(place: Place) -> None:
    async def refuse(_: Mapping[str, Any]) -> None:
        raise RuntimeError("the run store is full")

    with pytest.raises(RuntimeError, match="the run store is full"):
        await place.sink.write(place.ref, TAGGING, refuse)
    assert (place.mutations(), place.labels()) == (0, None)


async def test_everything_else_is_as_it_was(place: Place) -> None:
    before = place.everything_else()
    await place.sink.write(place.ref, TAGGING, Kept(place))
    await place.sink.write(place.ref, OTHER_ANSWER, Kept(place))
    assert place.everything_else() == before


async def test_changed_content_is_stale_and_untouched(place: Place) -> None:
    place.replace_content()
    before, kept = place.everything_else(), Kept(place)
    write = await place.sink.write(place.ref, TAGGING, kept)
    assert (write.status, place.labels(), kept.records) == (WriteStatus.STALE, None, [])
    assert (place.everything_else(), place.mutations()) == (before, 0)


async def test_an_answer_without_tags_is_written_too(place: Place) -> None:
    nothing = replace(TAGGING, tags={"auto": {}, "user": None})
    first = await place.sink.write(place.ref, nothing, Kept(place))
    second = await place.sink.write(place.ref, nothing, Kept(place))
    assert (first.status, second.status) == (WriteStatus.WRITTEN, WriteStatus.UNCHANGED)
    assert place.labels() == {}


async def test_real_sinks_pass_over_images_that_lie_elsewhere(place: Place) -> None:
    if isinstance(place, FakePlace):
        return
    write = await place.sink.write(ImageRef(Handle("abc")), TAGGING, Kept(place))
    assert write.status is WriteStatus.SKIPPED
    assert write.reason


async def test_labels_of_rules_are_written_like_tags(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    assert place.rule_labels() == []
    again = [(await place.sink.write(place.ref, LABELLED, Kept(place))).status for _ in range(2)]
    assert (again, place.rule_labels()) == (
        [WriteStatus.WRITTEN, WriteStatus.UNCHANGED],
        ["family", "needs-review"],
    )
    await place.sink.write(place.ref, TAGGING, Kept(place))
    assert place.rule_labels() == []


# --- undo -------------------------------------------------------------------------------------------------


def written_by(
    tagging: Tagging,
    write: Write,
    kept: Kept,
    *earlier: Tagged,
) -> Written:
    """What a run's files tell afterwards; `earlier` are what other runs' manifests say of the image."""
    manifests = {tagged.tagging.run_id: tagged for tagged in earlier}

    async def look_up(run_id: str) -> Tagged | None:
        return manifests.get(run_id)

    row = json.loads(json.dumps(asdict(write)))
    previous = json.loads(json.dumps(kept.records[0])) if kept.records else None
    return Written(tagging.run_id, row, previous, look_up, tagging)


async def run_at(place: Place, tagging: Tagging, *earlier: Tagged) -> Written:
    kept = Kept(place)
    return written_by(tagging, await place.sink.write(place.ref, tagging, kept), kept, *earlier)


async def test_undo_leaves_everything_as_it_was(place: Place) -> None:
    before = place.everything()
    written = await run_at(place, TAGGING)
    assert (await place.sink.undo(place.ref, written)).status is WriteStatus.WRITTEN
    assert place.everything() == before


async def test_undo_puts_an_earlier_runs_values_back(place: Place) -> None:
    await run_at(place, TAGGING)
    before = place.everything()
    written = await run_at(place, OTHER_ANSWER)
    assert (await place.sink.undo(place.ref, written)).status is WriteStatus.WRITTEN
    assert place.everything() == before


async def test_labels_of_rules_are_undone_like_tags(place: Place) -> None:
    before = place.everything()
    first = await run_at(place, LABELLED)
    between = place.everything()
    second = await run_at(place, replace(OTHER_ANSWER, labels=("others",)))
    assert place.rule_labels() == ["others"]
    for written, expected in ((second, between), (first, before)):
        assert (await place.sink.undo(place.ref, written)).status is WriteStatus.WRITTEN
        assert place.everything() == expected


async def test_two_runs_are_undone_newest_first(place: Place) -> None:
    before = place.everything()
    first, second = await run_at(place, TAGGING), await run_at(place, OTHER_ANSWER)
    statuses = [(await place.sink.undo(place.ref, written)).status for written in (second, first)]
    assert statuses == [WriteStatus.WRITTEN, WriteStatus.WRITTEN]
    assert place.everything() == before


@pytest.mark.parametrize("runs", [1, 2])
async def test_undone_twice_changes_nothing_more(place: Place, runs: int) -> None:
    written = [await run_at(place, tagging) for tagging in (TAGGING, OTHER_ANSWER)[:runs]][-1]
    await place.sink.undo(place.ref, written)
    before, mutations = place.everything(), place.mutations()
    assert (await place.sink.undo(place.ref, written)).status is WriteStatus.UNCHANGED
    assert (place.everything(), place.mutations()) == (before, mutations)


async def test_what_a_second_run_wrote_is_not_undone_for_the_first(place: Place) -> None:
    first = await run_at(place, TAGGING)
    await run_at(place, OTHER_ANSWER)
    before, mutations = place.everything(), place.mutations()
    undo = await place.sink.undo(place.ref, first)
    assert (undo.status, undo.reason) == (WriteStatus.STALE, "changed_since")
    assert (place.everything(), place.mutations()) == (before, mutations)


async def test_values_that_somebody_edited_are_left_alone(place: Place) -> None:
    written = await run_at(place, TAGGING)
    place.edit_values()
    before, mutations = place.everything(), place.mutations()
    for _ in range(2):
        undo = await place.sink.undo(place.ref, written)
        assert (undo.status, undo.reason) == (WriteStatus.STALE, "changed_since")
        assert (place.everything(), place.mutations()) == (before, mutations)
        written = replace(written, write=asdict(undo))  # of the row that the undo pass leaves


async def test_undo_never_touches_new_content(place: Place) -> None:
    written = await run_at(place, TAGGING)
    place.replace_content()
    before = place.everything_else()
    undo = await place.sink.undo(place.ref, written)
    assert undo.status is WriteStatus.STALE or place.labels() is None
    assert place.everything_else() == before


async def test_a_run_that_wrote_nothing_has_nothing_to_undo(place: Place) -> None:
    await run_at(place, TAGGING)
    before, mutations = place.everything(), place.mutations()
    written = await run_at(place, replace(TAGGING, run_id="run-two"))
    assert (await place.sink.undo(place.ref, written)).status is WriteStatus.UNCHANGED
    assert (place.everything(), place.mutations()) == (before, mutations)


@pytest.mark.parametrize("lost_answer", [False, True])
async def test_previous_values_that_were_lost_are_found_in_the_earlier_manifest(
    place: Place, *, lost_answer: bool
) -> None:
    await run_at(place, TAGGING)
    before = place.everything()
    written = await run_at(place, OTHER_ANSWER, Tagged(place.ref, TAGGING))
    if lost_answer:
        written = replace(written, write=asdict(Write(WriteStatus.FAILED, reason="unavailable: reset")))
    undo = await place.sink.undo(place.ref, replace(written, previous=None))
    assert undo.status is WriteStatus.WRITTEN
    assert place.everything() == before


async def test_that_there_were_no_previous_values_is_known_without_them(place: Place) -> None:
    before = place.everything()
    written = await run_at(place, TAGGING)
    undo = await place.sink.undo(place.ref, replace(written, previous=None))
    assert (undo.status, place.everything()) == (WriteStatus.WRITTEN, before)


async def test_previous_values_that_nobody_knows_are_not_guessed(place: Place) -> None:
    await run_at(place, TAGGING)
    written = await run_at(place, OTHER_ANSWER)
    before = place.everything()
    undo = await place.sink.undo(place.ref, replace(written, previous=None))
    assert (undo.status, undo.reason) == (WriteStatus.SKIPPED, "previous_lost")
    assert place.everything() == before


async def test_a_run_that_writes_twice_still_names_the_run_before_it(place: Place) -> None:
    await run_at(place, TAGGING)
    before = place.everything()
    await run_at(place, OTHER_ANSWER)
    again = replace(OTHER_ANSWER, tags={"auto": {"lake": 44}, "user": None})
    written = await run_at(place, again, Tagged(place.ref, TAGGING))
    assert (await place.sink.undo(place.ref, written)).status is WriteStatus.WRITTEN
    assert place.everything() == before


# --- the marker -------------------------------------------------------------------------------------------


async def marked(place: Place, tagging: Tagging, run_id: str = "run-next") -> bool | None:
    return await place.sink.marked(place.ref, tagging.engine_config, tagging.policy, run_id)


async def test_an_image_is_marked_once_it_is_written(place: Place) -> None:
    assert not await marked(place, TAGGING)
    await place.sink.write(place.ref, TAGGING, Kept(place))
    mutations = place.mutations()
    assert await marked(place, TAGGING)
    assert place.mutations() == mutations


@pytest.mark.parametrize("other", [{"engine_config": "0" * 16}, {"policy": "0" * 16}])
async def test_other_settings_are_not_marked(place: Place, other: dict[str, str]) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    assert not await marked(place, replace(TAGGING, **other))  # type: ignore[arg-type] # two of its texts


async def test_new_content_is_not_marked(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    place.replace_content()
    assert not await marked(place, TAGGING)


async def test_a_runs_own_write_does_not_keep_it_from_tagging(place: Place) -> None:
    await place.sink.write(place.ref, TAGGING, Kept(place))
    assert not await marked(place, TAGGING, run_id=TAGGING.run_id)


async def test_what_was_undone_is_not_marked(place: Place) -> None:
    written = await run_at(place, TAGGING)
    await place.sink.undo(place.ref, written)
    assert not await marked(place, TAGGING)


async def test_no_sink_finds_a_mark_on_images_that_lie_elsewhere(place: Place) -> None:
    assert not await place.sink.marked(ImageRef(Handle("abc")), "c", "p", "run-next")
