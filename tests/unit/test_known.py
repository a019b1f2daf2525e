"""What a row leaves known of its image, and how it is found again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.rows import ROWS, a_row
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.judging import Standard, Why
from tagmill.producer.modes import Mode
from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.folder import Folder
from tagmill.worker.joining import joined
from tagmill.worker.known import Known, key_of
from tagmill.worker.models import Handle, Json, LocalFile, S3Object
from tagmill.worker.rows import UNDONE

NIGHT = "2026-11-22T02:00:00+00:00"


def known(**fields: object) -> Known:
    found = Known.of_row(a_row(**fields), NIGHT)
    assert found is not None
    return found


@given(ROWS)
def test_a_line_says_all(row: Json) -> None:
    found = Known.of_row(row, NIGHT)
    if found is not None:
        assert Known.from_line(found.to_line()) == found
        assert Known.from_line(found.to_line()).to_line() == found.to_line()


@given(st.lists(st.text(min_size=1)))
def test_objects_are_known_in_the_order_of_their_listing(keys: list[str]) -> None:
    ids = [S3Object("bucket", key).id for key in keys]
    assert sorted(ids, key=key_of) == [S3Object("bucket", key).id for key in sorted(keys)]


def test_files_are_known_in_the_order_of_their_listing(tmp_path: Path) -> None:
    names = [
        b"a b.png",
        b"a%20b.png",
        b"a.b",
        b"a/b",
        b"a/\xff",
        b"a-b/x",
        b"A",
        "ü".encode(),
        b"z/~",
        b"z/\n",
    ]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(b"-")
    listed = Folder(os.fsencode(tmp_path), Filters()).list({})
    keys = [key_of(item.ref.id) for item in listed if item.ref is not None]
    assert len(keys) == len(names)
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (S3Object("b", "k", "v1", 7, "later"), True),
        (S3Object("b", "k", "copied", 7), True),
        (S3Object("b", "k", "v2", 7), False),
        (S3Object("b", "k", "v2", 7, version_id="3"), True),
        (S3Object("b", "k", None, 7, "2026-11-01T00:00:00Z"), True),
        (S3Object("b", "k", None, 8, "2026-11-01T00:00:00Z"), False),
        (S3Object("b", "k", None, 7, "later"), False),
    ],
)
def test_an_object_has_its_content_by_etag_or_version_or_else_by_size_and_date(
    now: S3Object, *, same: bool
) -> None:
    source = {"bucket": "b", "key": "k", "etag": "v1", "version_id": "2", "size": 7}
    source["last_modified"] = "2026-11-01T00:00:00Z"
    write = {
        "status": "written",
        "etag_after": "copied",
        "version_after": "3",
        "reason": None,
        "truncated": 0,
    }
    stale = {**write, "status": "stale", "etag_after": "v2"}
    assert (
        known(id="s3://b/k", source=source, writes={"metadata": write, "tags": stale}).has_content_of(now)
        is same
    )


@pytest.mark.parametrize(("size", "mtime_ns", "same"), [(3, 0, True), (4, 0, False), (3, 1, False)])
def test_a_file_has_its_content_by_size_and_time(size: int, mtime_ns: int, *, same: bool) -> None:
    row = {"id": "file:///p/a", "source": {"path": "a", "size": 3, "mtime_ns": 0}}
    found = Known.from_line(known(**row).to_line())
    assert found.has_content_of(LocalFile("file:///p/a", "a", size, mtime_ns)) is same


def test_of_a_handle_nothing_is_known_but_its_name() -> None:
    assert known().has_content_of(Handle("h", 3))


def test_a_later_answer_of_another_run_holds_and_a_later_pass_of_the_same() -> None:
    night, next_night = "2026-11-22T03:00:00.000Z", "2026-11-23T03:00:00.000Z"
    earlier, later = known(run_id="one", tagged_at=night), known(run_id="two", tagged_at=next_night)
    assert later.over(earlier) is later
    assert earlier.over(later) is later
    undone = known(run_id="one", tagged_at=night, flags=[UNDONE])
    assert undone.over(earlier) is undone
    assert undone.policy is None
    assert undone.over(later) is later


def test_tags_that_were_taken_back_are_given_again_without_a_call() -> None:
    undone = known(flags=[UNDONE])
    standard = Standard(Mode.CHANGED, undone.engine_config, a_row()["policy"], frozenset())
    assert standard.judge(known(), Handle("h")).why is Why.UNCHANGED
    assert standard.judge(undone, Handle("h")).why is Why.REAPPLIED


@pytest.mark.parametrize(
    ("class_", "mode", "size", "why"),
    [
        ("ImageRejectedError", Mode.CHANGED, 3, Why.REFUSED),
        ("ImageRejectedError", Mode.MISSING, 3, Why.REFUSED),
        ("ImageRejectedError", Mode.CHANGED, 4, Why.CHANGED),
        ("ImageRejectedError", Mode.ALL, 3, Why.AGAIN),
        ("EngineUnavailableError", Mode.CHANGED, 3, Why.FAILED),
    ],
)
def test_what_the_service_cannot_read_is_paid_for_again_only_when_it_changed(
    class_: str, mode: Mode, size: int, why: Why
) -> None:
    error = {"class": class_, "code": "any", "message": ""}
    source = {"path": "a", "size": 3, "mtime_ns": 0}
    failed = known(
        id="file:///p/a",
        source=source,
        status="failed",
        error=error,
        tags=None,
        raw_tags=None,
        tagged_at=None,
    )
    standard = Standard(mode, failed.engine_config, a_row()["policy"], frozenset())
    assert standard.judge(failed, LocalFile("file:///p/a", "a", size, 0)).why is why


def test_tags_found_in_their_place_keep_the_answer_that_is_known() -> None:
    error = {"class": "AlreadyTagged", "code": "already_tagged", "message": ""}
    marked = known(run_id="two", status="skipped", error=error, tags=None, raw_tags=None, tagged_at=None)
    earlier = known(run_id="one")
    assert marked.over(earlier) == earlier
    assert marked.over(replace(earlier, policy="another")).place is None
    assert marked.at == NIGHT


ORDERED = st.dictionaries(st.binary(max_size=2), st.integers()).map(lambda found: sorted(found.items()))


@given(ORDERED, ORDERED)
def test_joined_is_what_two_dicts_say(left: list[tuple[bytes, int]], right: list[tuple[bytes, int]]) -> None:
    one, other = dict(left), dict(right)
    assert list(joined(left, right)) == [
        (key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys())
    ]
