from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.files import MemoryFiles
from fakes.runs import a_spec
from structlog.testing import capture_logs

from tagmill.producer.listeners.base import Delivery
from tagmill.producer.listeners.listener import Listener
from tagmill.producer.listeners.webhook_feed import MOST, WebhookFeed
from tagmill.worker.errors import RedisUnavailableError, RunStoreUnavailableError
from tagmill.worker.events import Event
from tagmill.worker.models import Handle, ImageRef
from tagmill.worker.store.event_runs import EventRuns
from tagmill.worker.store.plan import Plan, Planned
from tagmill.worker.store.webhook_events import DELETE, OVERWRITE, UPLOAD, EventWriter
from tagmill.worker.store.webhook_events import Event as Received

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN_ID = "events-x-20261122t12z"


class FlakyFiles(MemoryFiles):
    """Fails as often as it is told, after the write took place or before."""

    def __init__(self) -> None:
        super().__init__()
        self.failures, self.writes = 0, True

    def create(self, name: str, data: bytes) -> bool:
        fails = "/plan/" in name and self.failures > 0
        created = super().create(name, data) if self.writes or not fails else False
        if fails:
            self.failures -= 1
            raise RunStoreUnavailableError("away")
        return created


class ListFeed:
    """Tells of what it was given until that is done; then stops the listener."""

    def __init__(self, *deliveries: Delivery) -> None:
        self.waiting, self.stopped = list(deliveries), False

    def take(self) -> Sequence[Delivery]:
        self.stopped = not self.waiting
        return self.waiting[:2]

    def done(self, deliveries: Sequence[Delivery]) -> None:
        self.waiting = [delivery for delivery in self.waiting if delivery not in deliveries]

    def close(self) -> None:
        self.stopped = True


@pytest.fixture
def files() -> FlakyFiles:
    return FlakyFiles()


def delivery(number: int, **passed_over: int) -> Delivery:
    return Delivery((Event(f"e{number}", Planned(ImageRef(Handle(f"h{number}")))),), passed_over, number)


def listen(files: MemoryFiles, feed: ListFeed | WebhookFeed, nudge: list[str], most: int = 50) -> Listener:
    looks: Iterator[int] = iter(range(most))
    runs = EventRuns(files, a_spec(embedded=False), "x", clock=lambda: NOON)
    listener = Listener(
        feed,
        runs,
        nudge=nudge.append,
        stopped=lambda: getattr(feed, "stopped", False) or next(looks, None) is None,
        sleep=lambda _: None,
    )
    listener.run()
    return listener


def planned(files: MemoryFiles) -> list[ImageRef]:
    plan = Plan(files, RUN_ID, 0)
    return [
        image.ref
        for shard in plan.shards()
        for chunk in plan.header(shard).chunks(RUN_ID, 0)
        for image in plan.images(chunk)
    ]


def test_what_comes_in_is_planned_told_of_and_done_with(files: FlakyFiles) -> None:
    feed, nudges = ListFeed(*map(delivery, range(3)), Delivery((), {"own": 2}, 9)), list[str]()
    listener = listen(files, feed, nudges)
    assert [ref.id for ref in planned(files)] == ["filestack:h0", "filestack:h1", "filestack:h2"]
    assert listener.counts == {"new": 3, "own": 2}
    assert nudges == [RUN_ID, RUN_ID]
    assert feed.waiting == []


def test_a_write_that_took_place_and_failed_is_not_made_twice(files: FlakyFiles) -> None:
    files.failures = 3
    feed = ListFeed(delivery(0), delivery(1))
    with capture_logs() as logs:
        listen(files, feed, [])
    assert len(planned(files)) == 2
    assert feed.waiting == []
    assert [entry["event"] for entry in logs] == ["run_store_unavailable", "events_taken"]


def test_nothing_is_done_with_before_it_is_planned(files: FlakyFiles) -> None:
    files.failures, files.writes = 10**6, False
    feed = ListFeed(delivery(0))
    listen(files, feed, [])
    assert len(feed.waiting) == 1


def test_without_redis_the_plan_has_it_all_the_same(files: FlakyFiles) -> None:
    class Away(list[str]):
        def append(self, _run_id: str) -> None:
            raise RedisUnavailableError("away")

    feed = ListFeed(delivery(0))
    with capture_logs() as logs:
        listen(files, feed, Away())
    assert (len(planned(files)), feed.waiting) == (1, [])
    assert logs[0]["event"] == "redis_unavailable"


# --- what the webhook receiver has kept -------------------------------------------------------------------


def received(number: int, action: str) -> Received:
    url = f"https://cdn.filestackcontent.com/handle{number:06d}"
    return Received("default", NOON.isoformat(), number, action, {"url": url})


def test_uploads_and_overwrites_are_due_from_where_the_last_listener_stopped(files: FlakyFiles) -> None:
    writer = EventWriter(files)
    writer.write([received(1, UPLOAD), received(2, DELETE), received(3, OVERWRITE)], NOON)
    listen(files, WebhookFeed(files, "x", sleep=lambda _: None), [], most=4)
    writer.write([received(4, UPLOAD)], NOON)
    again = listen(files, WebhookFeed(files, "x", sleep=lambda _: None), [], most=4)

    assert [(ref.id, ref.fresh) for ref in planned(files)] == [
        ("filestack:handle000001", False),
        ("filestack:handle000003", True),
        ("filestack:handle000004", False),
    ]
    assert again.counts["new"] == 1


def test_an_event_that_is_kept_twice_is_due_once(files: FlakyFiles) -> None:
    for _ in range(2):
        EventWriter(files).write([received(1, UPLOAD)], NOON)
    listener = listen(files, WebhookFeed(files, "x", sleep=lambda _: None), [], most=4)
    assert len(planned(files)) == 1
    assert listener.counts["new"] == 1


def test_many_events_come_in_pieces(files: FlakyFiles) -> None:
    EventWriter(files).write([received(number, UPLOAD) for number in range(MOST + 1)], NOON)
    feed = WebhookFeed(files, "x", sleep=lambda _: None)
    assert len(feed.take()) == MOST


def test_two_listeners_share_a_numbering_of_cursors(files: FlakyFiles) -> None:
    first, second = (WebhookFeed(files, "x", sleep=lambda _: None) for _ in range(2))
    EventWriter(files).write([received(1, UPLOAD)], NOON)
    first.done(first.take())
    second.done(second.take())
    names = [Path(name).name for name in files.contents if "cursors" in name]
    assert names == ["00000001.json", "00000002.json"]
