from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from fakes.files import CountingFiles, MemoryFiles
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.store.webhook_events import Cursor, Event, EventWriter, WebhookEvents, find_result

NOW = datetime(2026, 11, 25, 0, 30, tzinfo=UTC)
HANDLE, OTHER = "AbCdEfGhIjKlMnOpQr01", "AbCdEfGhIjKlMnOpQr02"
WORKFLOW = "11111111-2222-4333-8444-555555555555"


def an_event(number: int, action: str = "fp.upload", at: datetime = NOW, **text: Any) -> Event:
    return Event("main", f"{at:%Y-%m-%dT%H:%M:%SZ}", number, action, text)


def a_result(number: int, *sources: str, at: datetime = NOW, workflow: str = WORKFLOW) -> Event:
    return an_event(number, "fs.workflow", at, workflow=workflow, sources=list(sources))


def ids(found: Sequence[tuple[Cursor, Event]]) -> list[int | str]:
    return [event.id for _, event in found]


def all_after(files: MemoryFiles, cursor: Cursor, *actions: str) -> list[tuple[Cursor, Event]]:
    return list(WebhookEvents(files).after(cursor, actions or ("fp.upload",)))


def test_events_are_read_once_by_whoever_keeps_the_cursor() -> None:
    files = MemoryFiles()
    writer = EventWriter(files)
    writer.write([an_event(1), an_event(2)], NOW)
    first = all_after(files, {})
    assert [event for _, event in first] == [an_event(1), an_event(2)]
    writer.write([an_event(3)], NOW)
    assert ids(all_after(files, first[-1][0])) == [3]


def test_who_stops_within_a_file_reads_it_again() -> None:
    files = MemoryFiles()
    EventWriter(files).write([an_event(1), an_event(2)], NOW)
    (cursor, _), _ = all_after(files, {})
    assert ids(all_after(files, cursor)) == [1, 2]


def test_a_file_that_comes_late_is_not_missed() -> None:
    files = MemoryFiles()
    early, late = EventWriter(files), EventWriter(files)
    early.write([an_event(1)], NOW + timedelta(hours=1))
    cursor = all_after(files, {})[-1][0]
    late.write([an_event(2)], NOW)
    early.write([an_event(3)], NOW + timedelta(hours=1))
    assert sorted(map(int, ids(all_after(files, cursor)))) == [2, 3]


def test_a_cursor_stays_small() -> None:
    files = MemoryFiles()
    for hour in range(50):
        EventWriter(files).write([an_event(hour)], NOW + timedelta(hours=hour))
    found = all_after(files, {})
    assert ids(found) == list(range(50))
    assert len(found[-1][0]) == 3


def test_what_is_of_no_interest_is_read_once() -> None:
    files = CountingFiles()
    writer = EventWriter(files)
    for number in range(20):
        writer.write([an_event(number, "fp.delete")], NOW)
    events = WebhookEvents(files)
    assert list(events.after({}, ["fp.upload"])) == []
    before = files.requests
    writer.write([an_event(99)], NOW)
    assert [event.id for _, event in events.after({}, ["fp.upload"])] == [99]
    assert files.requests - before < 10


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["fp.upload", "fp.delete"]))),
    st.lists(st.integers(1, 5)),
)
def test_no_event_is_missed_however_reading_and_writing_mix(
    writes: list[tuple[int, int, str]], portions: list[int]
) -> None:
    files, seen, expected = MemoryFiles(), set[int | str](), set[int | str]()
    writers, events = [EventWriter(files) for _ in range(3)], WebhookEvents(files)
    cursor: Cursor = {}
    for number, (writer, minutes, action) in enumerate(writes):
        writers[writer].write([an_event(2 * number, action), an_event(2 * number + 1)], NOW)
        expected |= {2 * number + 1} | ({2 * number} if action == "fp.upload" else set())
        portion = portions[minutes] if minutes < len(portions) else 0
        found = list(islice(events.after(cursor, ["fp.upload"]), portion))
        seen |= {event.id for _, event in found}
        cursor = found[-1][0] if found else cursor
    seen |= {event.id for _, event in events.after(cursor, ["fp.upload"])}
    assert seen == expected


# --- the result of a job whose id was lost ----------------------------------------------------------------


def test_a_result_is_found_by_workflow_and_source() -> None:
    files = MemoryFiles()
    EventWriter(files).write([a_result(1, OTHER), a_result(2, HANDLE)], NOW)
    found = find_result(files, WORKFLOW, [HANDLE, f"filestack:{HANDLE}"], NOW - timedelta(minutes=15))
    assert found == {"workflow": WORKFLOW, "sources": [HANDLE]}


@pytest.mark.parametrize(
    "event",
    [
        a_result(1, HANDLE, workflow="another"),
        a_result(1, HANDLE, at=NOW - timedelta(hours=1)),
        a_result(1, OTHER),
        an_event(1, "fp.upload", workflow=WORKFLOW, sources=[HANDLE]),
    ],
)
def test_what_is_about_another_job_is_no_result(event: Event) -> None:
    files = MemoryFiles()
    EventWriter(files).write([event], NOW)
    assert find_result(files, WORKFLOW, [HANDLE], NOW) is None


def test_a_signed_address_is_known_without_its_query() -> None:
    files = MemoryFiles()
    EventWriter(files).write([a_result(1, "https://b.example/a.jpg?X-Amz-Signature=[redacted]")], NOW)
    assert find_result(files, WORKFLOW, ["https://b.example/a.jpg?X-Amz-Signature=abc"], NOW) is not None


@pytest.mark.parametrize(
    ("told", "job", "is_found"),
    [
        ("?versionId=v1&X-Amz-Signature=[redacted]", "?versionId=v1", True),
        ("?versionId=v2&X-Amz-Signature=[redacted]", "?versionId=v1", False),
        ("?X-Amz-Signature=[redacted]", "?versionId=v1", False),
        ("?versionId=v1", "", True),
    ],
)
def test_a_version_is_not_taken_for_another(told: str, job: str, *, is_found: bool) -> None:
    """Nor for one that nobody names; an object is meant whichever is told."""
    files = MemoryFiles()
    EventWriter(files).write([a_result(1, f"https://b.example/a.jpg{told}")], NOW)
    found = find_result(files, WORKFLOW, [f"https://b.example/a.jpg{job}"], NOW)
    assert (found is not None) == is_found


def test_nothing_received_is_no_result() -> None:
    assert find_result(MemoryFiles(), WORKFLOW, [HANDLE], NOW) is None
