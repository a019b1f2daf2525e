"""A queue of Amazon SQS: messages come in by long polling, and go when they are done with."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tagmill.producer.listeners.base import Delivery
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import ConfigError, EventsUnavailableError, NotFoundError, TaggingError

BATCH = 10  #: messages, the most that a request of SQS takes
LONG_POLL_SECONDS = 20
RECEIVERS = 4  #: long polls at a time
WAITING = 500  #: messages in hand that are not planned yet
MOMENT_SECONDS = 1.0
GATHER_SECONDS = 0.25  #: what comes within is one chunk of work, which waits for its turn once
MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
REFUSED = frozenset(
    {"AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch"}
)
_REGION = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    receipt: str
    body: str


class Queue:
    """Every method raises `ConfigError` for what people must mend, `EventsUnavailableError` otherwise."""

    def __init__(self, client: Any, url: str) -> None:
        self._client, self.url = client, url

    def receive(self, wait_seconds: int = LONG_POLL_SECONDS) -> list[Message]:
        with self._translated():
            answer = self._client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=wait_seconds
            )
        return [
            Message(found["MessageId"], found["ReceiptHandle"], found["Body"])
            for found in answer.get("Messages", ())
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        """One that is not deleted is told once more."""
        entries = [{"Id": str(n), "ReceiptHandle": message.receipt} for n, message in enumerate(messages)]
        for first in range(0, len(entries), BATCH):
            with self._translated():
                self._client.delete_message_batch(QueueUrl=self.url, Entries=entries[first : first + BATCH])

    def send(self, body: str) -> None:
        with self._translated():
            self._client.send_message(QueueUrl=self.url, MessageBody=body)

    def check(self) -> None:
        """Raise `NotFoundError` for a queue that is not there, unless that cannot be told."""
        try:
            with self._translated():
                self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        except NotFoundError:
            raise
        except TaggingError:
            log.debug("queue_not_checked", queue=self.url)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in MISSING:
                raise NotFoundError(f"there is no queue {self.url}") from None
            if code in REFUSED:
                raise ConfigError(f"{self.url}: refused ({code}); check the AWS credentials") from None
            raise EventsUnavailableError(f"{self.url}: {code}") from None
        except BotoCoreError as error:
            said = f"cannot reach {self.url} ({type(error).__name__})"
            raise EventsUnavailableError(f"{said}: check the address and the network") from None


def open_queue(url: str) -> Queue:
    """Raise `ConfigError` for what is no queue's address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ConfigError("write a queue as its URL: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    region = _REGION.fullmatch(parts.hostname)
    config = Config(
        max_pool_connections=RECEIVERS + 1,
        connect_timeout=5,
        read_timeout=LONG_POLL_SECONDS + 10,
        retries={"mode": "standard", "total_max_attempts": 3},
        user_agent_extra="tagmill",
    )
    try:
        client = boto3.client(
            "sqs",
            region_name=region[1] if region else None,
            endpoint_url=None if region else f"{parts.scheme}://{parts.netloc}",
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"SQS cannot be reached as configured: {error}") from None
    return Queue(client, url)


class SqsFeed:
    def __init__(
        self,
        inbox: Queue,
        dead_letters: Queue | None,
        new_reader: Callable[[], Callable[[str], Delivery]],
        *,
        receivers: int = RECEIVERS,
    ) -> None:
        """`new_reader`: for each receiver; it raises ValueError for what it cannot read.

        That goes to `dead_letters`; None: it stays, for the queue's own redrive policy.
        """
        self._inbox, self._dead_letters = inbox, dead_letters
        self._new_reader, self._count = new_reader, receivers
        self._found: queue.Queue[Delivery | Exception] = queue.Queue(WAITING)
        self._complaints, self._closed = Complaints(), threading.Event()

    def start(self) -> None:
        """Raise `ConfigError` for a queue that is not there."""
        first = self._inbox.receive(wait_seconds=0)
        for number in range(self._count):
            begin, first = first, []
            threading.Thread(
                target=self._receive, args=(begin,), name=f"receiver-{number}", daemon=True
            ).start()

    def take(self) -> Sequence[Delivery]:
        try:
            found = [self._found.get(timeout=MOMENT_SECONDS)]
        except queue.Empty:
            return ()
        until = time.monotonic() + GATHER_SECONDS
        with contextlib.suppress(queue.Empty):
            while len(found) < WAITING:
                found.append(self._found.get(timeout=max(until - time.monotonic(), 0.0)))
        for one in found:
            if isinstance(one, Exception):
                raise one
        return [one for one in found if isinstance(one, Delivery)]

    def done(self, deliveries: Sequence[Delivery]) -> None:
        try:
            self._inbox.delete([delivery.token for delivery in deliveries])
            self._complaints.forget("messages_not_deleted")
        except EventsUnavailableError as error:
            self._complaints.say("messages_not_deleted", error)

    def close(self) -> None:
        """What a receiver is handed from now on is told again when its time in hand is over."""
        self._closed.set()

    def _receive(self, messages: Iterable[Message]) -> None:
        """A receiver that ended unheard would leave a listener that hears nothing."""
        try:
            self._receive_on(messages)
        except Exception as error:  # noqa: BLE001 - raised where deliveries are taken
            self._found.put(error)

    def _receive_on(self, messages: Iterable[Message]) -> None:
        read, complaints = self._new_reader(), Complaints()
        while not self._closed.is_set():
            for message in messages:
                if (delivery := self._read(read, message)) is not None:
                    self._found.put(delivery)
            try:
                messages = self._inbox.receive()
                complaints.forget("queue_unavailable")
            except EventsUnavailableError as error:
                complaints.say("queue_unavailable", error)
                messages = []
                self._closed.wait(MOMENT_SECONDS)

    def _read(self, read: Callable[[str], Delivery], message: Message) -> Delivery | None:
        try:
            return replace(read(message.body), token=message)
        except ValueError as error:
            log.warning("message_not_understood", message=message.id, error=str(error))
        except Exception:
            log.exception("message_not_read", message=message.id)
        if self._dead_letters is None:
            return None
        try:
            self._dead_letters.send(message.body)
        except TaggingError as error:
            log.warning("dead_letter_not_sent", message=message.id, error=str(error))
            return None
        return Delivery(passed_over={"unreadable": 1}, token=message)
