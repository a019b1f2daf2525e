"""What S3 says of a change, in its three shapes, and a wire from the strict S3's feed to a queue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

import boto3
from servers.s3 import ACCESS_KEY, REGION, SECRET_KEY
from servers.strict_s3 import StrictS3UnderTest

LOOK_SECONDS = 0.02
AT = "2026-11-22T12:00:00.000Z"
PRINCIPAL = "AWS:AROAEXAMPLE:worker"
Json = dict[str, Any]


def record(bucket: str, key: str, **fields: Any) -> Json:
    """`fields`: of the object, or `name` of the event, or `principal`."""
    name, principal = fields.pop("name", "ObjectCreated:Put"), fields.pop("principal", PRINCIPAL)
    about = {"key": quote_plus(key), "size": 70, "eTag": "e" * 32, "sequencer": "0055AED6DCD90281E5"}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": AT,
        "eventName": name,
        "userIdentity": {"principalId": principal},
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": about | fields,
        },
    }


def plain(*records: Json) -> str:
    return json.dumps({"Records": records})


def by_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "m", "Subject": "Amazon S3", "Message": body})


def by_event_bridge(bucket: str, key: str, **fields: Any) -> str:
    kind, reason = fields.pop("kind", "Object Created"), fields.pop("reason", "PutObject")
    about = {"key": key, "size": 70, "etag": "e" * 32, "sequencer": "0055AED6DCD90281E5"}
    detail = {"version": "0", "bucket": {"name": bucket}, "object": about | fields, "reason": reason}
    return json.dumps({"version": "0", "source": "aws.s3", "detail-type": kind, "time": AT, "detail": detail})


TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": AT, "Bucket": "b"})


def sqs_client(url: str) -> Any:
    """Of a moto server."""
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return session.client("sqs", endpoint_url=url)


class Wire:
    """Sends each change of a bucket to a queue, `times` over."""

    def __init__(self, s3: StrictS3UnderTest, client: Any, queue_url: str, times: int = 1) -> None:
        self._s3, self._client, self._queue_url, self._times = s3, client, queue_url, times
        self.sent = 0  #: events of the feed that are in the queue
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            if self.sent == len(self._s3.events):
                time.sleep(LOOK_SECONDS)  # the feed gives no sign
                continue
            self._send(self.sent)
            self.sent += 1

    def stop(self) -> None:
        self._stopped.set()

    def _send(self, number: int) -> None:
        event = self._s3.events[number]
        if not event.name.startswith("ObjectCreated:"):
            return
        stored = self._s3.store.current(event.bucket, event.key)
        fields = {"size": stored.size, "eTag": stored.etag, "sequencer": f"{number + 1:016X}"}
        body = plain(record(event.bucket, event.key, name=event.name, **fields))
        for _ in range(self._times):
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=body)


@contextmanager
def wired(s3: StrictS3UnderTest, client: Any, queue_url: str, times: int = 1) -> Iterator[Wire]:
    wire = Wire(s3, client, queue_url, times)
    thread = threading.Thread(target=wire.run)
    thread.start()
    try:
        yield wire
    finally:
        wire.stop()
        thread.join()
