"""SIGKILL of listener, sealer and receiver at each point: what was acknowledged has one row, and one call.

Nothing names the points: an undisturbed process tells them (`servers.mortal`), and at each another one dies.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import servers.mortal
from servers.clocked_beat import set_clock
from servers.fleet import PIXEL, Deployment, Json, Program, RunFiles, deployed
from servers.mortal import POINT, TRACE
from servers.redis import RedisUnderTest, free_port, running_redis
from servers.s3 import S3UnderTest, running_s3
from servers.s3_notifications import plain, record, sqs_client
from servers.sandbox import SandboxUnderTest, running_sandbox
from servers.webhook_load import SECRET

from tagmill.sandbox.webhooks import Letter, Post, to_body
from tagmill.worker.store.digests import Digests
from tagmill.worker.store.folder import Folder

WORKFLOW = "11111111-2222-4333-8444-555555555555"
BUCKET = "library"
Play = Callable[["Scene"], None]


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T{text}").replace(tzinfo=UTC)


NOON, LATE, ONE, SEALABLE, AFTER_ALL = map(at, ("12:00:00", "12:59:59", "13:00:05", "13:00:31", "14:01:00"))


@dataclass
class Servers:
    """What all scenes share; each has its own folder, prefix in Redis, queues and images."""

    redis: RedisUnderTest
    sandbox: SandboxUnderTest
    aws: S3UnderTest
    images: Path  #: where the service finds the bucket's
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.aws.environment,
            **self.sandbox.environment,
            "TAGMILL_REDIS_URL": self.redis.url,
            "TAGMILL_FILESTACK_STORAGE_ALIAS": BUCKET,
            "TAGMILL_WEBHOOK_SECRETS": SECRET,
            "TAGMILL_WRITE_BACK": "none",
            "TAGMILL_PROCESSES": "1",
            "PYTHONPATH": str(Path(servers.mortal.__file__).parents[1]),
        }


class Scene:
    """One process that is to die at a point, those around it, and what each image must come to."""

    def __init__(self, servers: Servers, number: int, deployment: Deployment, point: str | None) -> None:
        self.servers, self.number, self.deployment, self._point = servers, number, deployment, point
        self.due: dict[str, int] = {}  #: image -> how often the service is to be called for it
        self.points: list[str] = []  #: that the one who is to die has passed, once they are kept
        self._doomed: tuple[Program, tuple[str, ...]] | None = None
        self.died = False

    def clock(self, now: datetime) -> None:
        set_clock(self.deployment.folder, now)

    def start(self, *arguments: str, **settings: str) -> Program:
        command = [sys.executable, "-m", servers.mortal.__name__, *arguments]
        settings.setdefault(TRACE, "trace-of-others")
        return self.deployment.start_command(command, arguments[0], said=b"", **settings)

    def start_doomed(self, *arguments: str) -> None:
        point = {} if self._point is None else {POINT: self._point}
        self._doomed = self.start(*arguments, **{TRACE: "trace"}, **point), arguments

    def revive(self) -> None:
        """Start again who has died as it was to."""
        assert self._doomed is not None
        program, arguments = self._doomed
        if not program.running:
            assert (program.wait(), self.died) == (-signal.SIGKILL, False)
            self.died = True
            self._doomed = self.start(*arguments), arguments

    def until(self, fact: Callable[[], object], what: str) -> None:
        """Wait for it over a death."""

        def it_is() -> object:
            self.revive()
            return fact()

        self.deployment.until(it_is, what)

    def until_dead_or(self, fact: Callable[[], object], what: str) -> None:
        assert self._doomed is not None
        program, _ = self._doomed
        self.deployment.until(lambda: not program.running or fact(), what)

    def keep_points(self) -> None:
        self.points = (self.deployment.folder / "trace").read_text().splitlines()

    def end(self) -> None:
        """Let every hour come to its end."""
        self.clock(AFTER_ALL)
        self.until(self.is_over, "all runs are finished")
        if not self.points:
            self.keep_points()

    # --- facts --------------------------------------------------------------------------------------------

    def runs(self) -> list[RunFiles]:
        return [RunFiles(folder) for folder in sorted(self.deployment.store.glob("runs/events-*"))]

    def has_rows(self, *ids: str) -> bool:
        """Of these images, compacted."""
        return set(ids) <= {row["id"] for run in self.runs() for row in run.shards()}

    def is_over(self) -> bool:
        return all(run.finished for run in self.runs())

    def digested(self) -> Counter[str]:
        """Webhook events that were dealt with, by action."""
        digests = Digests(Folder(self.deployment.store), NOON).read_on()
        return sum((Counter(digest.counts) for digest in digests), Counter())

    def check(self, *, paid_twice: bool = False) -> None:
        """Each image has one row, and as many calls as are due; more only where its row tells of them."""
        rows: list[Json] = [row for run in self.runs() for row in run.rows()]
        assert Counter(row["id"] for row in rows) == dict.fromkeys(self.due, 1)
        assert {row["status"] for row in rows} == {"tagged"}
        called = self.servers.sandbox.stats(images=True)["images"]
        for row in rows:
            billed, due = called.get(service_name(row["id"]), {"billed": 0})["billed"], self.due[row["id"]]
            assert row["calls"] - row["maybe_charged"] <= billed <= row["calls"]
            assert due <= billed <= due + row["maybe_charged"]
            assert paid_twice or not row["maybe_charged"]


def service_name(image: str) -> str:
    return image.removeprefix("filestack:").replace("s3://", "src://")


class Queue:
    """A queue of SQS that hears of a scene's own images, and another one for what is no event."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._client = scene, sqs_client(scene.servers.aws.url)
        seconds = {"VisibilityTimeout": "3"}
        name = f"uploads-{scene.number}"
        self.url = self._client.create_queue(QueueName=name, Attributes=seconds)["QueueUrl"]
        self.dead = self._client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        self.listen = ("listen", f"s3://{BUCKET}/", "--queue", self.url, "--dead-letter-queue", self.dead)

    def tell(self, *names: str) -> None:
        for name in names:
            key = f"{self._scene.number}/{name}.png"
            path = self._scene.servers.images / key
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(PIXEL)
            self._scene.due[f"s3://{BUCKET}/{key}"] = 1
            self.send(plain(record(BUCKET, key)))

    def send(self, body: str) -> None:
        self._client.send_message(QueueUrl=self.url, MessageBody=body)

    def is_empty(self) -> bool:
        """Whether every message was acknowledged."""
        kinds = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=kinds)["Attributes"]
        return not sum(map(int, found.values()))

    def dead_letters(self) -> set[str]:
        found = self._client.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10).get("Messages", ())
        return {message["Body"] for message in found}


def listen_to_a_queue(scene: Scene) -> None:
    """An hour with more than one request can acknowledge, and the next one, which seals it."""
    queue = Queue(scene)
    scene.clock(NOON)
    for name in "abcdefgh":
        queue.tell(name)
    queue.tell(*"abc")
    queue.send("nonsense")
    scene.start("worker")
    scene.start_doomed(*queue.listen)
    scene.until(queue.is_empty, "the messages of an hour are acknowledged")
    scene.clock(ONE)
    queue.tell("i")
    scene.until(queue.is_empty, "the message of the next hour is acknowledged")
    scene.end()
    scene.check()
    assert queue.dead_letters() == {"nonsense"}


def seal(scene: Scene) -> None:
    """A listener with a slow clock comes when the sealer is dead."""
    queue = Queue(scene)
    scene.clock(NOON)
    queue.tell(*"abc")
    listener = scene.start(*queue.listen)
    scene.deployment.until(queue.is_empty, "the messages are acknowledged")
    listener.kill()
    scene.clock(SEALABLE)
    scene.start_doomed("worker")
    scene.until_dead_or(scene.is_over, "the hour is over")
    scene.keep_points()
    scene.clock(LATE)
    queue.tell("late")
    scene.start(*queue.listen)
    scene.deployment.until(queue.is_empty, "the late message is acknowledged")
    scene.end()
    scene.check(paid_twice=True)


class Sender:
    """Of webhooks, which sends each again until it is answered."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._port = scene, free_port()
        self._url = f"http://127.0.0.1:{self._port}/webhooks/filestack/default"
        self.serve = ("serve", "--port", str(self._port))
        self._letters: list[Letter] = []
        self._ids = itertools.count(1)

    def upload(self) -> str:
        """The image of a new file, of which an event tells; it is due."""
        image, event = self._file()
        self._put("fp.upload", event)
        self._scene.due[image] = 1
        return image

    def delete(self) -> None:
        self._put("fp.delete", self._file()[1])

    def finish_job(self) -> str:
        """The image of which a job's result tells: nobody has to be asked for it."""
        image, _ = self._file()
        results = {"tags_1": {"data": {"tags": {"auto": {"sky": 97}, "user": None}}}}
        about = {"workflow": WORKFLOW, "jobid": f"job-{image}", "sources": [service_name(image)]}
        self._put("fs.workflow", {**about, "results": results, "status": "Finished"})
        self._scene.due[image] = 0
        return image

    def _file(self) -> tuple[str, Json]:
        handle = self._scene.servers.sandbox.upload(PIXEL)
        return f"filestack:{handle}", {"url": f"https://cdn.filestackcontent.com/{handle}"}

    def _put(self, action: str, text: Json) -> None:
        self.put(to_body({"id": next(self._ids), "action": action, "timestamp": 1, "text": text}))

    def put(self, body: bytes) -> None:
        self._letters.append(Letter.signed(body, SECRET, int(time.time())))

    def send(self) -> bool:
        """All that were not answered at the same moment; return whether there are none left."""
        statuses = asyncio.run(self._post())
        assert set(statuses) <= {0, 200}
        sent = zip(self._letters, statuses, strict=True)
        self._letters = [letter for letter, status in sent if status != 200]
        return not self._letters

    async def _post(self) -> list[int]:
        async with Post() as post:
            return await asyncio.gather(*(post(self._url, letter) for letter in self._letters))


def receive(scene: Scene) -> None:
    """Events of each kind that come at the same moment, and a later one."""
    sender = Sender(scene)
    scene.clock(NOON)
    scene.start("worker")
    scene.start("listen", "--webhooks")
    scene.start_doomed(*sender.serve)
    send_and_digest(scene, sender)
    scene.end()
    scene.check()


def listen_to_webhooks(scene: Scene) -> None:
    sender = Sender(scene)
    scene.clock(NOON)
    scene.start("worker")
    scene.start(*sender.serve)
    scene.start_doomed("listen", "--webhooks")
    send_and_digest(scene, sender)
    scene.end()
    scene.check()


def send_and_digest(scene: Scene, sender: Sender) -> None:
    first = sender.upload()
    sender.finish_job()
    sender.delete()
    sender.put(b"nonsense")
    scene.until(sender.send, "events are answered")
    scene.until(lambda: scene.has_rows(first), "the image is tagged")
    scene.clock(ONE)
    told = {"fp.upload": 1, "fp.delete": 1, "fs.workflow": 1}
    scene.until(lambda: scene.digested() == told, "they are dealt with")
    second = sender.upload()
    scene.until(sender.send, "the later one is answered")
    scene.until(lambda: scene.has_rows(second), "its image is tagged")
    scene.clock(AFTER_ALL)
    scene.until(lambda: scene.digested() == told | {"fp.upload": 2}, "it is dealt with")


# --- the tests --------------------------------------------------------------------------------------------

PLAYS = (listen_to_a_queue, listen_to_webhooks, seal, receive)
PLAN = "runs/events-uploads-20261122t12z/passes/0000"
SHARPEST: list[tuple[Play, str]] = [
    (listen_to_a_queue, f"after create {PLAN}/plan/00000000.jsonl.gz"),
    (listen_to_a_queue, "after DeleteMessageBatch 10"),
    (seal, f"after create {PLAN}/plan/00000001.jsonl.gz"),
    (receive, "after create webhooks/received/20261122/12/*/00000001.jsonl.gz"),
]


@pytest.fixture(scope="module")
def servers_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("service")
    images = folder / "images"
    images.mkdir()
    service = {"cache": False, "data_folder": str(folder / "sandbox"), "aliases": {BUCKET: str(images)}}
    with ExitStack() as stack:
        redis, aws = stack.enter_context(running_redis(0)), stack.enter_context(running_s3())
        aws.client().create_bucket(Bucket=BUCKET)
        yield Servers(redis, stack.enter_context(running_sandbox(**service)), aws, images)


def perform(play: Play, servers: Servers, folder: Path, point: str | None = None) -> list[str]:
    """Return the points that were passed."""
    number = next(servers.numbers)
    own = folder / str(number)
    own.mkdir()
    with deployed(own, **servers.environment, TAGMILL_REDIS_PREFIX=f"scene{number}") as deployment:
        scene = Scene(servers, number, deployment, point)
        with deployment.explained():
            play(scene)
            assert scene.died == (point is not None), f"{point} was not reached"
    return scene.points


def apart(points: list[str]) -> Iterator[str]:
    """Nothing lies between the end of an operation and the beginning of the next one: one death will do."""
    for point, following in itertools.zip_longest(points, points[1:], fillvalue=""):
        if not (point.startswith("after") and following.startswith("before")):
            yield point


@pytest.mark.parametrize(("play", "point"), SHARPEST)
def test_nothing_acknowledged_is_lost_or_doubled(
    servers_of_all: Servers, tmp_path: Path, play: Play, point: str
) -> None:
    perform(play, servers_of_all, tmp_path, point)


@pytest.mark.long
@pytest.mark.parametrize("play", PLAYS)
def test_nor_is_it_at_any_point(
    servers_of_all: Servers, tmp_path: Path, subtests: pytest.Subtests, play: Play
) -> None:
    points = perform(play, servers_of_all, tmp_path)
    assert {point for of, point in SHARPEST if of is play} <= set(points)
    for point in apart(points):
        with subtests.test(point):
            perform(play, servers_of_all, tmp_path, point)
