"""One process that dies at a point, those around it who tell of images, and what is to come of each image."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import servers.mortal
from servers.clocked_beat import set_clock
from servers.fleet import PIXEL, Deployment, Json, Program, RunFiles, deployed
from servers.mortal import POINT, TRACE
from servers.redis import RedisUnderTest, free_port
from servers.s3 import S3UnderTest
from servers.s3_notifications import plain, record, sqs_client
from servers.sandbox import SandboxUnderTest, running_sandbox
from servers.webhook_load import SECRET

from tagmill.sandbox.webhooks import Letter, Post, to_body
from tagmill.worker.store.digests import Digests
from tagmill.worker.store.folder import Folder

WORKFLOW = "11111111-2222-4333-8444-555555555555"
#: It takes a moment, as jobs do.
WORKFLOWS = f"""
[workflows.people]
id = "{WORKFLOW}"
seconds = 0.3

[workflows.people.tasks.tags_1]
task = "tags"
"""
BUCKET = "library"


@dataclass
class Site:
    """What all scenes share; each has its own folder, prefix in Redis, queues and images."""

    redis: RedisUnderTest
    sandbox: SandboxUnderTest
    aws: S3UnderTest
    images: Path  #: where the service finds those of the bucket
    _numbers: Iterator[int] = field(default_factory=itertools.count)

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

    @contextmanager
    def scene(self, folder: Path, point: str | None) -> Iterator[Scene]:
        """Yield one whose processes are gone afterwards; `point` None: nobody dies."""
        number = next(self._numbers)
        own = folder / str(number)
        own.mkdir()
        with deployed(own, **self.environment, TAGMILL_REDIS_PREFIX=f"scene{number}") as deployment:
            yield Scene(self, number, deployment, point)


@contextmanager
def running_site(folder: Path, redis: RedisUnderTest, aws: S3UnderTest) -> Iterator[Site]:
    images, workflows = folder / "images", folder / "workflows.toml"
    images.mkdir()
    workflows.write_text(WORKFLOWS)
    aws.client().create_bucket(Bucket=BUCKET)
    service = {"data_folder": str(folder / "sandbox"), "aliases": {BUCKET: str(images)}, "cache": False}
    service |= {"workflows": str(workflows), "webhook_retries": [0.5, 1, 2, 4, 8]}
    with running_sandbox(**service) as sandbox:
        yield Site(redis, sandbox, aws, images)


class Scene:
    """One process that is to die at a point, those around it, and what each image must come to."""

    def __init__(self, site: Site, number: int, deployment: Deployment, point: str | None) -> None:
        self.site, self.number, self.deployment, self._point = site, number, deployment, point
        self.due: dict[str, int] = {}  #: image -> how often the service is to be called for it
        self._doomed: tuple[Program, tuple[str, ...]] | None = None
        self._died = False

    def clock(self, now: datetime) -> None:
        self._now = now
        set_clock(self.deployment.folder, now)

    def start(self, *arguments: str, said: bytes = b"", **settings: str) -> Program:
        command = [sys.executable, "-m", servers.mortal.__name__, *arguments]
        settings = {TRACE: "trace-of-others", **settings}
        return self.deployment.start_command(command, arguments[0], said=said, **settings)

    def start_doomed(self, *arguments: str) -> None:
        point = {} if self._point is None else {POINT: self._point}
        self._doomed = self.start(*arguments, said=b"", **{TRACE: "trace", **point}), arguments

    def until(self, fact: Callable[[], object], what: str) -> None:
        """Wait for it over a death."""

        def it_is() -> object:
            self._revive()
            return fact()

        self.deployment.until(it_is, what)

    def _revive(self) -> None:
        """Start again who has died as it was to."""
        assert self._doomed is not None
        program, arguments = self._doomed
        if not program.running:
            assert (program.wait(), self._died) == (-signal.SIGKILL, False)
            self._died = True
            self._doomed = self.start(*arguments), arguments

    def until_dead_or(self, fact: Callable[[], object], what: str) -> None:
        assert self._doomed is not None
        program, _ = self._doomed
        self.deployment.until(lambda: not program.running or fact(), what)

    def points(self) -> list[str]:
        """Those that whoever is to die has passed."""
        return (self.deployment.folder / "trace").read_text().splitlines()

    def end(self) -> None:
        """Every run is to come to its end, and whoever is to die has died by then."""
        self.until(self.is_over, "all runs are finished")
        self.until(lambda: self._died == (self._point is not None), f"death at {self._point}")

    # --- facts --------------------------------------------------------------------------------------------

    def runs(self) -> list[RunFiles]:
        return [RunFiles(folder) for folder in sorted(self.deployment.store.glob("runs/*"))]

    def has_row(self, image: str) -> bool:
        return any(row["id"] == image for run in self.runs() for row in run.shards())

    def is_over(self) -> bool:
        return all(run.finished for run in self.runs())

    def digested(self) -> Counter[str]:
        """Webhook events that were dealt with, by action."""
        digests = Digests(Folder(self.deployment.store), self._now).read_on()
        return sum((Counter(digest.counts) for digest in digests), Counter())

    def delivered(self, handle: str) -> bool:
        """Whether the service had an answer to its own webhook about that file."""
        deliveries = self.site.sandbox.deliveries()
        return ("delivered", handle) in {(one["state"], one["image"]) for one in deliveries}

    def check(self, *, paid_twice: bool = False) -> None:
        """Each image has one row, and as many calls as are due; more only where its row tells of them."""
        rows: list[Json] = [row for run in self.runs() for row in run.rows()]
        assert Counter(row["id"] for row in rows) == dict.fromkeys(self.due, 1)
        assert {row["status"] for row in rows} == {"tagged"}
        called = self.site.sandbox.stats(images=True)["images"]
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
        self._scene, self._client = scene, sqs_client(scene.site.aws.url)
        seconds = {"VisibilityTimeout": "3"}
        name = f"uploads-{scene.number}"
        self.url = self._client.create_queue(QueueName=name, Attributes=seconds)["QueueUrl"]
        self.dead = self._client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        self.listen = ("listen", f"s3://{BUCKET}/", "--queue", self.url, "--dead-letter-queue", self.dead)

    def tell(self, *names: str) -> None:
        for name in names:
            key = f"{self._scene.number}/{name}.png"
            path = self._scene.site.images / key
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


class Sender:
    """Of webhooks, which sends each again until it is answered."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._port = scene, free_port()
        self.url = f"http://127.0.0.1:{self._port}/webhooks/filestack/default"
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
        handle = self._scene.site.sandbox.upload(PIXEL)
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
            return await asyncio.gather(*(post(self.url, letter) for letter in self._letters))
