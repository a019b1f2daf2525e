"""Which image of a group is asked, and what the others get, until nobody waits."""

from __future__ import annotations

import pytest
from fakes.copies import FATES, SHARD, Copies
from fakes.files import Died, MemoryFiles, MortalFiles
from fakes.runs import RUN
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.worker.counts import is_waiting
from tagmill.worker.followers import CERTAIN, ONE_BY_ONE, decide, plan_followers
from tagmill.worker.models import Json
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.summary import read_summary


def asked_by_the_rules(fates: list[str]) -> list[int]:
    """Which images of one group, in plan order, are to be paid for."""
    asked: list[int] = []
    for number, fate in enumerate(fates):
        before = [fates[other] for other in asked]
        refused = sum(other in {"refused", "deadly"} for other in before[:ONE_BY_ONE])
        settled = "tagged" in before[:ONE_BY_ONE] or refused >= CERTAIN
        if fate != "marked" and not settled:
            asked.append(number)
    return asked


groups = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 5), min_size=size, max_size=size),
        st.lists(st.sampled_from(sorted(FATES)), min_size=size, max_size=size),
    )
)


@given(groups)
@settings(deadline=None)
def test_every_content_is_paid_for_as_rarely_as_the_rules_allow(images: tuple[list[int], list[str]]) -> None:
    library = Copies(*images)
    library.plan()
    library.finish()

    rows = library.rows()
    assert [row["id"] for row in rows] == [ref.id for ref in library.images]
    assert set(library.asked.values()) <= {0, 1}
    for content in set(library.contents):
        group = [number for number, other in enumerate(library.contents) if other == content]
        asked = [group[place] for place in asked_by_the_rules([library.fates[number] for number in group])]
        assert [number for number in group if library.asked[f"s3://b/k{number}"]] == asked
        assert_shared([rows[number] for number in group], [library.fates[number] for number in group])
    summary = read_summary(library.files, RUN)
    assert summary is not None
    assert (summary["remaining"], summary["calls"]) == (0, library.asked.total())
    assert summary["duplicate"] == sum(row["status"] == "duplicate" for row in rows)


def assert_shared(rows: list[Json], fates: list[str]) -> None:
    """Who was not asked has what one that was asked has, and says whose."""
    by_id = {row["id"]: row for row in rows}
    for row, fate in zip(rows, fates, strict=True):
        if row["calls"] or fate == "marked":
            assert row["duplicate_of"] is None
            continue
        source = by_id[row["duplicate_of"]]
        assert source["calls"] == 1
        assert (row["raw_tags"], row["tagged_at"]) == (source["raw_tags"], source["tagged_at"])
        if row["status"] == "duplicate":
            assert source["writes"] == {}
            assert (row["flags"], row["writes"]["metadata"]["status"]) == (["partial"], "written")
        else:
            assert (row["status"], row["error"]) == (source["status"], source["error"])


def small() -> Copies:
    """Two groups: one whose leader fails, one whose leader is tagged."""
    return Copies([0, 1, 0, 1, 0, 1, 2, 0], ["down", "tagged"] + ["tagged"] * 6)


def test_a_pass_that_leaves_images_waiting_begets_the_next_and_no_view() -> None:
    library = small()
    library.plan()
    library.work(Passes(library.files, RUN).newest())
    assert read_summary(library.files, RUN) is None
    assert Manifest(library.files, RUN, 0).counts().waiting == 5
    newest = Passes(library.files, RUN).newest()
    assert (newest.number, newest.kind, newest.inputs) == (1, PassKind.FOLLOWERS, ["0000"])


def test_the_rest_of_a_group_whose_leader_failed_waits_for_one_more_pass() -> None:
    library = small()
    library.plan()
    assert library.finish() == 3
    summaries = [Plan(library.files, RUN, number).summary() for number in range(3)]
    assert [summary and (summary.images, summary.skipped) for summary in summaries] == [
        (8, {}),
        (3, {"waiting": 2}),
        (2, {}),
    ]
    assert [row["pass"] for row in library.rows()] == [0, 0, 1, 1, 2, 1, 0, 2]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("write", range(1, 4))
def test_killed_anywhere_the_plan_is_the_undisturbed_one(write: int, *, written: bool) -> None:
    def waiting(files: MemoryFiles) -> tuple[Copies, PassSpec]:
        library = Copies([n % 4 for n in range(13)], ["tagged"] * 13, files)
        library.plan()
        library.work(Passes(files, RUN).newest())
        return library, Passes(files, RUN).newest()

    files = MortalFiles()
    library, current = waiting(files)
    files.die_at(write, written=written)
    with pytest.raises(Died):
        plan_followers(files, library.spec, current, lambda: False)
    files.die_at(0, written=False)
    plan_followers(files, library.spec, current, lambda: False)

    undisturbed = MemoryFiles()
    library, current = waiting(undisturbed)
    plan_followers(undisturbed, library.spec, current, lambda: False)
    assert plan_of(files) == plan_of(undisturbed)


def plan_of(files: MemoryFiles) -> dict[str, bytes]:
    return {name: data for name, data in files.contents.items() if "/0001/plan" in name}


@pytest.mark.parametrize("looks", range(9))
def test_stopped_it_writes_whole_shards_or_nothing(looks: int) -> None:
    library = Copies([0] * 8, ["tagged"] * 8)
    library.plan()
    library.work(Passes(library.files, RUN).newest())
    current, goes_on = Passes(library.files, RUN).newest(), iter([False] * looks)
    plan_followers(library.files, library.spec, current, lambda: next(goes_on, True))
    plan = Plan(library.files, RUN, 1)
    assert plan.summary() is None
    assert [plan.header(shard).count for shard in plan.shards()] in ([], [SHARD])


def test_an_answer_for_content_that_was_changed_is_not_handed_on() -> None:
    library = Copies([0, 0, 0], ["stale", "tagged", "tagged"])
    library.plan()
    library.finish()
    assert [row["status"] for row in library.rows()] == ["tagged", "tagged", "duplicate"]
    assert library.rows()[2]["duplicate_of"] == "s3://b/k1"


@given(groups, st.integers(0, 3))
@settings(deadline=None)
def test_cancelled_in_any_pass_nobody_is_asked_and_nobody_waits(
    images: tuple[list[int], list[str]], in_pass: int
) -> None:
    copies = Copies(*images)
    copies.plan()
    for _ in range(in_pass):
        current = Passes(copies.files, RUN).newest()
        if read_summary(copies.files, RUN) is None:
            plan_followers(copies.files, copies.spec, current, lambda: False)
            copies.work(current)
    asked, copies.cancelled = copies.asked.total(), True
    if read_summary(copies.files, RUN) is None:
        copies.finish()
    assert copies.asked.total() == asked
    assert not any(is_waiting(row) for row in copies.rows())
    assert {row["id"] for row in copies.rows()} == {ref.id for ref in copies.images}


def test_nobody_waits_without_a_decision() -> None:
    assert list(decide([])) == []
