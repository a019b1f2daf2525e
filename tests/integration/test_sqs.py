"""A queue of moto's SQS over HTTP: what is deleted, what stays, what goes to the dead letters."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers.s3 import S3UnderTest
from servers.s3_notifications import sqs_client
from structlog.testing import capture_logs

from tagmill.producer.listeners.base import Delivery
from tagmill.producer.listeners.sqs import BATCH, Queue, SqsFeed, open_queue
from tagmill.worker.errors import ConfigError, EventsUnavailableError, NotFoundError

WAIT_SECONDS = 20.0
_numbers = itertools.count()


@pytest.fixture
def client(s3_server: S3UnderTest, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return sqs_client(s3_server.url)


@pytest.fixture
def new_queue(client: Any) -> Callable[[], Queue]:
    def create() -> Queue:
        made = client.create_queue(QueueName=f"q-{next(_numbers)}", Attributes={"VisibilityTimeout": "600"})
        return open_queue(made["QueueUrl"])

    return create


def read(body: str) -> Delivery:
    if body.startswith("bad"):
        raise ValueError("cannot be read")
    return Delivery(passed_over={body: 1})


def taken(feed: SqsFeed, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    until = time.monotonic() + WAIT_SECONDS
    while len(found) < count and time.monotonic() < until:
        found += feed.take()
    return found


def waiting(client: Any, queue: Queue) -> tuple[int, int]:
    """Messages that can be received, and those in somebody's hands."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


@pytest.fixture
def feed_of() -> Iterator[Callable[..., SqsFeed]]:
    feeds: list[SqsFeed] = []

    def start(inbox: Queue, dead: Queue | None = None) -> SqsFeed:
        feeds.append(SqsFeed(inbox, dead, lambda: read, receivers=2))
        feeds[-1].start()
        return feeds[-1]

    yield start
    for feed in feeds:
        feed.close()


def test_messages_stay_until_they_are_done_with(
    client: Any, new_queue: Callable[[], Queue], feed_of: Callable[..., SqsFeed]
) -> None:
    inbox, count = new_queue(), 2 * BATCH + 3
    for number in range(count):
        inbox.send(f"{number}")
    feed = feed_of(inbox)
    deliveries = taken(feed, count)
    assert sorted(int(body) for one in deliveries for body in one.passed_over) == [*range(count)]
    assert waiting(client, inbox) == (0, count)
    feed.done(deliveries)
    assert waiting(client, inbox) == (0, 0)


def test_what_cannot_be_read_goes_to_the_dead_letters(
    client: Any, new_queue: Callable[[], Queue], feed_of: Callable[..., SqsFeed]
) -> None:
    inbox, dead = new_queue(), new_queue()
    inbox.send("bad one")
    [delivery] = taken(feed := feed_of(inbox, dead), 1)
    feed.done([delivery])
    assert (delivery.events, delivery.passed_over) == ((), {"unreadable": 1})
    assert [message.body for message in dead.receive(0)] == ["bad one"]
    assert waiting(client, inbox) == (0, 0)


def test_without_dead_letters_it_stays_for_the_queue_s_own_redrive(
    client: Any, new_queue: Callable[[], Queue], feed_of: Callable[..., SqsFeed]
) -> None:
    inbox = new_queue()
    inbox.send("bad one")
    inbox.send("good")
    with capture_logs() as logs:
        [delivery] = taken(feed := feed_of(inbox), 1)
        feed.done([delivery])
    assert delivery.passed_over == {"good": 1}
    assert waiting(client, inbox) == (0, 1)
    assert "message_not_understood" in [entry["event"] for entry in logs]


def test_a_receiver_that_fails_of_anything_is_heard_of(new_queue: Callable[[], Queue]) -> None:
    def no_reader() -> Callable[[str], Delivery]:
        raise LookupError("no reader")

    feed = SqsFeed(new_queue(), None, no_reader, receivers=1)
    feed.start()
    with pytest.raises(LookupError, match="no reader"):
        feed.take()


@pytest.mark.usefixtures("client")
def test_a_queue_that_is_not_there_is_refused_at_the_start(s3_server: S3UnderTest) -> None:
    missing = open_queue(f"{s3_server.url}/123456789012/no-such-queue")
    with pytest.raises(NotFoundError, match="no queue"):
        SqsFeed(missing, None, lambda: read).start()
    with pytest.raises(NotFoundError, match="no queue"):
        missing.check()


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("url", ["uploads", "arn:aws:sqs:eu-central-1:1:q", "https://", "http://u:p@h/q"])
def test_what_is_no_address_of_a_queue_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="as its URL"):
        open_queue(url)


@pytest.mark.usefixtures("client")
def test_a_server_that_is_away_is_one_line() -> None:
    with pytest.raises(EventsUnavailableError, match="EndpointConnectionError"):
        open_queue("http://127.0.0.1:9/1/q").receive(0)
