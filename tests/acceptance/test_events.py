"""`tagmill listen` as people run it: each upload is tagged once, whatever is told how often, and by whom."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.fleet import (
    PIXEL,
    Deployment,
    Fleet,
    Json,
    Program,
    RunFiles,
    any_alive,
    deployed,
    running_fleet,
)
from servers.s3 import S3UnderTest
from servers.s3_notifications import plain, record, sqs_client, wired
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EXIT_USAGE, EXIT_NOT_FOUND = 2, 3


class Uploads:
    """A bucket, a queue that hears of it, and a fleet with a worker."""

    def __init__(self, fleet: Fleet, s3: StrictS3UnderTest, sqs: Any) -> None:
        self.fleet, self.s3, self.sqs = fleet, s3, sqs
        self.bucket = s3.new_bucket()
        self.client: S3Client = s3.client()
        seconds = {"VisibilityTimeout": "5"}
        self.queue = sqs.create_queue(QueueName=f"{self.bucket}-uploads", Attributes=seconds)["QueueUrl"]
        self.dead = sqs.create_queue(QueueName=f"{self.bucket}-dead")["QueueUrl"]

    @property
    def deployment(self) -> Deployment:
        return self.fleet.deployment

    def listen(self, *arguments: str) -> Program:
        where = f"s3://{self.bucket}/in/"
        queues = ["--queue", self.queue, "--dead-letter-queue", self.dead]
        program = self.deployment.start("listen", where, *queues, *arguments)
        self.deployment.until(lambda: "listening" in program.stderr or not program.running, "a listener")
        assert program.running, program.tail()
        return program

    def put(self, *names: str, content: bytes = PIXEL) -> None:
        for name in names:
            self.client.put_object(Bucket=self.bucket, Key=f"in/{name}", Body=content)

    def tell(self, name: str, number: int) -> str:
        stored = self.s3.store.current(self.bucket, f"in/{name}")
        fields = {"size": stored.size, "eTag": stored.etag, "sequencer": f"{number + 1:016X}"}
        return plain(record(self.bucket, f"in/{name}", **fields))

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def runs(self) -> list[RunFiles]:
        return [RunFiles(folder) for folder in sorted(self.deployment.store.glob("runs/events-*"))]

    def rows(self) -> list[Json]:
        return [row for run in self.runs() for row in run.shards()]

    def await_rows(self, count: int) -> list[Json]:
        self.deployment.until(lambda: len(self.rows()) >= count, f"{count} rows", within=110)
        return self.rows()

    def written(self) -> int:
        objects = self.s3.store.buckets[self.bucket].objects
        return sum("tagmill-tags" in versions[-1].metadata for versions in objects.values())

    def left(self, queue: str) -> int:
        kinds = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=kinds)["Attributes"]
        return sum(map(int, found.values()))


@contextmanager
def running_uploads(folder: Path, queues: S3UnderTest, **settings: str) -> Iterator[Uploads]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        own = {"TAGMILL_PROBE": "off", "TAGMILL_ALLOW_COPY_EVENTS": "true", **S3UnderTest(s3.url).environment}
        fleet = stack.enter_context(running_fleet(folder, 0, {**own, **settings}, latency_seconds=0))
        uploads = Uploads(fleet, s3, sqs_client(queues.url))
        uploads.deployment.worker()
        yield uploads


@pytest.fixture
def uploads(tmp_path: Path, s3_server: S3UnderTest) -> Iterator[Uploads]:
    with running_uploads(tmp_path, s3_server) as uploads:
        yield uploads


@pytest.mark.parametrize(
    "images", [30, pytest.param(1_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_our_own_write_backs_are_no_news(uploads: Uploads, images: int) -> None:
    """Each is told of to the very queue that the listener hears: no image is asked for again."""
    names = [f"ü {number}+%41.png" for number in range(images)]
    with wired(uploads.s3, uploads.sqs, uploads.queue) as wire:
        listener = uploads.listen()
        uploads.put(*names)
        rows = uploads.await_rows(images)
        uploads.deployment.until(
            lambda: wire.sent == len(uploads.s3.events) >= 2 * images and not uploads.left(uploads.queue),
            "every event is heard",
            within=600,
        )
    listener.terminate()
    uploads.deployment.finish(listener)
    with uploads.deployment.explained():
        assert sorted(row["id"] for row in rows) == sorted(f"s3://{uploads.bucket}/in/{n}" for n in names)
        assert {(row["status"], row["calls"]) for row in rows} == {("tagged", 1)}
        assert uploads.rows() == rows
        assert (uploads.fleet.calls, uploads.written()) == (images, images)
        assert f"{images} new, {images} own" in listener.stderr


def test_duplicates_disorder_and_restarts_cost_nothing(uploads: Uploads) -> None:
    names = [f"{number}.png" for number in range(8)]
    uploads.put(*names)
    told = [uploads.tell(name, number) for number, name in enumerate(names)]
    uploads.put("0.png", content=PIXEL + b"newer")
    told.append(uploads.tell("0.png", 100))
    storm = told * 5
    random.Random(7).shuffle(storm)  # noqa: S311 - an order
    for body in storm[: len(storm) // 2]:
        uploads.send(body)
    doomed = uploads.listen()
    uploads.deployment.until(uploads.rows, "a row")

    doomed.kill()
    for body in ["nonsense", *storm[len(storm) // 2 :]]:
        uploads.send(body)
    listener = uploads.listen()

    uploads.deployment.until(lambda: not uploads.left(uploads.queue), "all is heard")
    rows = uploads.await_rows(len(names))
    listener.terminate()
    uploads.deployment.finish(listener)
    with uploads.deployment.explained():
        of_each = Counter(row["id"].rpartition("/")[2] for row in uploads.rows())
        assert set(of_each) == set(names)
        assert {of_each[name] for name in names[1:]} == {1}
        assert of_each["0.png"] <= 2  # the older content, too, if it was told of first
        assert uploads.fleet.calls == len(uploads.rows())
        assert rows
        assert uploads.left(uploads.dead) == 1


class Alone:
    """A bucket, a queue that hears of it, and no fleet."""

    def __init__(self, deployment: Deployment, s3: StrictS3UnderTest, queue: str) -> None:
        self.deployment, self._client, self._queue = deployment, s3.client(), queue
        self.bucket = s3.new_bucket()

    def listen(self, *arguments: str) -> Program:
        where = ["listen", f"s3://{self.bucket}/in/", "--queue", self._queue, "--engine", "sandbox"]
        program = self.deployment.start(*where, *arguments)
        self.deployment.until(lambda: "listening" in program.stderr or not program.running, "a listener")
        assert program.running, program.tail()
        return program

    def put(self, names: list[str]) -> None:
        for name in names:
            self._client.put_object(Bucket=self.bucket, Key=f"in/{name}", Body=PIXEL)

    def runs(self) -> list[Path]:
        return [made.parent for made in self.deployment.store.glob("runs/events-*/run.json")]

    def rows(self) -> list[Json]:
        return [row for run in self.runs() for row in RunFiles(run).shards()]

    def await_rows(self, names: list[str]) -> None:
        """Wait until each image has one row, and it is tagged."""
        self.deployment.until(lambda: len(self.rows()) >= len(names), "all rows", within=60)
        with self.deployment.explained():
            ids = sorted(f"s3://{self.bucket}/in/{name}" for name in names)
            assert sorted(row["id"] for row in self.rows()) == ids
            assert {row["status"] for row in self.rows()} == {"tagged"}


@pytest.fixture
def alone(tmp_path: Path, s3_server: S3UnderTest) -> Iterator[Alone]:
    with running_strict_s3() as s3, ExitStack() as stack:
        sqs = sqs_client(s3_server.url)
        queue = sqs.create_queue(QueueName=f"here-{tmp_path.name}", Attributes={"VisibilityTimeout": "2"})[
            "QueueUrl"
        ]
        deployment = stack.enter_context(deployed(tmp_path, **S3UnderTest(s3.url).environment))
        stack.enter_context(wired(s3, sqs, queue))
        yield Alone(deployment, s3, queue)


def test_without_a_fleet_a_listener_brings_a_worker_for_events_alone(alone: Alone) -> None:
    (alone.deployment.folder / "pipeline.toml").write_text('[tasks.tags]\n[tasks.sfw]\nafter = "tags"\n')
    listener = alone.listen("--pipeline", "pipeline.toml")
    alone.put(names := [f"ü {number}.png" for number in range(6)])
    alone.await_rows(names)
    assert {tuple(row["results"]) for row in alone.rows()} == {("tags", "sfw")}
    workers = [one for one in listener.descendants() if "--events" in one.cmdline()]
    assert {one.environ()["TAGMILL_LANES"] for one in workers} == {"events"}
    listener.terminate()
    alone.deployment.finish(listener)
    assert not any_alive(workers)


@pytest.mark.long
def test_without_a_fleet_a_listener_is_killed_steered_and_alone(alone: Alone) -> None:
    deployment, names = alone.deployment, [f"{number}.png" for number in range(12)]
    doomed = alone.listen()
    alone.put(names[:6])
    run_id = deployment.until(alone.runs, "a run")[0].name
    doomed.kill()
    alone.put(names[6:])
    listener = alone.listen()
    deployment.finish(deployment.start("pause", run_id))
    assert deployment.finish(deployment.start("resume", run_id, "--json")).json["state"] == "running"
    refused = deployment.start("run", str(deployment.folder), "--engine", "sandbox")
    assert refused.wait() == EXIT_USAGE
    assert f"pid {listener.pid}" in refused.stderr
    alone.await_rows(names)


def test_a_bucket_that_is_not_there_is_refused(alone: Alone) -> None:
    queue = ["--queue", "https://q/1/q", "--engine", "sandbox", "--write-back", "none"]
    program = alone.deployment.start("listen", "s3://no-such-bucket/", *queue)
    assert program.wait() == EXIT_NOT_FOUND
    assert "no bucket 'no-such-bucket'" in program.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://b/p"], "--queue"),
        (["s3://b/p", "--queue", "https://q/1/q", "--dead-letter-queue", "https://q/1/q"], "go round"),
        (["--webhooks", "--dead-letter-queue", "https://q/1/q"], "--dead-letter-queue is for"),
        (["--webhooks", "--lane", "fast"], "--lane fast"),
        (["--webhooks"], "no Filestack credentials"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    deployment = Deployment(tmp_path, {})
    program = deployment.start("listen", *arguments)
    assert program.wait() in {2, 3}
    [line] = program.stderr.splitlines()
    assert said in line
