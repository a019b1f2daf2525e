from __future__ import annotations

from collections import Counter

from fakes.files import MemoryFiles
from fakes.runs import SmallRun
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.counts import Counts
from tagmill.worker.models import Json, Status, WriteStatus

WRITES = st.sampled_from(WriteStatus).map(lambda status: {"status": status.value})
ROWS: st.SearchStrategy[list[Json]] = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from([status.value for status in Status]),
            "raw_tags": st.just({"auto": {}, "user": None}),
            "calls": st.integers(0, 5),
            "maybe_charged": st.integers(0, 5),
            "writes": st.dictionaries(st.sampled_from(["metadata", "sidecar"]), WRITES),
            "error": st.none() | st.sampled_from(["missing", "rejected"]).map(lambda code: {"code": code}),
        }
    )
)


@given(ROWS)
def test_every_row_is_settled_once_and_its_calls_and_writes_are_counted(rows: list[Json]) -> None:
    counts = Counts.of_rows(rows)
    assert counts.settled == len(rows)
    assert counts.calls == sum(row["calls"] for row in rows)
    assert counts.maybe_charged == sum(row["maybe_charged"] for row in rows)
    assert sum(counts.writes.values()) == sum(len(row["writes"]) for row in rows)
    assert counts.errors == Counter(row["error"]["code"] for row in rows if row["error"])
    for status in Status:
        assert getattr(counts, status.value) == sum(row["status"] == status for row in rows)


@given(ROWS, ROWS)
def test_sums_of_parts_are_the_counts_of_the_whole(first: list[Json], second: list[Json]) -> None:
    parts = [Counts.of_rows(first), Counts.of_rows(second)]
    assert Counts.total(parts) == Counts.of_rows(first + second)
    assert Counts.total([]) == Counts()
    assert Counts.total(parts).less(parts[1]) == parts[0]


@given(ROWS)
def test_counts_come_back_from_json(rows: list[Json]) -> None:
    counts = Counts.of_rows(rows)
    assert Counts.from_json(counts.to_json()) == counts


def test_counts_written_before_errors_were_counted_are_read() -> None:
    older = {name: value for name, value in Counts(failed=1).to_json().items() if name != "errors"}
    assert Counts.from_json(older) == Counts(failed=1)


def test_a_duplicate_without_an_answer_is_waiting_and_not_settled() -> None:
    row: Json = {
        "status": "duplicate",
        "raw_tags": None,
        "calls": 0,
        "maybe_charged": 0,
        "writes": {},
        "error": None,
    }
    counts = Counts.of_rows([row, {**row, "raw_tags": {"auto": {}}}])
    assert (counts.waiting, counts.duplicate, counts.settled) == (1, 1, 1)


def test_two_counts_share_nothing() -> None:
    first, second = Counts(), Counts()
    first.writes["written"] += 1
    assert second.writes["written"] == 0


def test_rows_as_they_are_built_can_be_counted() -> None:
    run = SmallRun(MemoryFiles())
    run.shard(6, 6)
    rows = run.rows(run.chunks[0], [Status.TAGGED, Status.FAILED, Status.SKIPPED])
    assert Counts.of_rows(rows) == Counts(tagged=2, failed=2, skipped=2, calls=4, errors={"rejected": 4})
