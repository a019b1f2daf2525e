"""SIGKILL of listener, sealer and receiver at each point: what was acknowledged has one row, and one call.

Nothing names the points: an undisturbed process tells them (`servers.mortal`), and at each another one dies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from servers.fleet import PIXEL
from servers.redis import RedisUnderTest
from servers.s3 import S3UnderTest
from servers.scene import WORKFLOW, Queue, Scene, Sender, Site, running_site
from servers.webhook_load import SECRET

Play = Callable[[Scene], list[str]]  #: the points of an undisturbed process
Until = Callable[[Callable[[], object], str], None]  #: fact, what it is


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T{text}").replace(tzinfo=UTC)


NOON, LATE, ONE, SEALABLE, AFTER_ALL = map(at, ("12:00:00", "12:59:59", "13:00:05", "13:00:31", "14:01:00"))


def listen_to_a_queue(scene: Scene) -> list[str]:
    """Who dies is started again at once."""
    return listen_for_an_hour(scene, scene.until)


def listen_again_later(scene: Scene) -> list[str]:
    """Who dies in the first hour is started again in the next one."""
    return listen_for_an_hour(scene, scene.until_dead_or)


def listen_for_an_hour(scene: Scene, until: Until) -> list[str]:
    """An hour with more messages than one request acknowledges, and the next one, which seals it."""
    queue = Queue(scene)
    scene.clock(NOON)
    queue.tell(*"abcdefgh", *"abc")
    queue.send("nonsense")
    scene.start("worker")
    scene.start_doomed(*queue.listen)
    until(queue.is_empty, "the messages of an hour are acknowledged")
    scene.clock(ONE)
    queue.tell("next")
    scene.until(queue.is_empty, "the message of the next hour is acknowledged")
    scene.clock(AFTER_ALL)
    scene.end()
    scene.check()
    assert queue.dead_letters() == {"nonsense"}
    return scene.points()


def seal(scene: Scene) -> list[str]:
    """A listener whose clock is slow comes when the sealer is dead, or done; it may begin the next hour."""
    queue = Queue(scene)
    scene.clock(NOON)
    queue.tell(*"abc")
    listener = scene.start(*queue.listen)
    scene.deployment.until(queue.is_empty, "the messages are acknowledged")
    listener.kill()
    scene.clock(SEALABLE)
    scene.start_doomed("worker")
    scene.until_dead_or(scene.is_over, "the hour is over")
    scene.clock(LATE)
    queue.tell("late")
    scene.start(*queue.listen)
    scene.deployment.until(queue.is_empty, "the late message is acknowledged")
    scene.clock(AFTER_ALL)
    scene.end()
    scene.check(paid_twice=True)
    return [point for point in scene.points() if "20261122t13z" not in point]


def receive(scene: Scene) -> list[str]:
    sender = Sender(scene)
    scene.clock(NOON)
    scene.start("worker")
    scene.start("listen", "--webhooks")
    scene.start_doomed(*sender.serve)
    return send_events(scene, sender)


def listen_to_webhooks(scene: Scene) -> list[str]:
    sender = Sender(scene)
    scene.clock(NOON)
    scene.start("worker")
    scene.start(*sender.serve)
    scene.start_doomed("listen", "--webhooks")
    return send_events(scene, sender)


def send_events(scene: Scene, sender: Sender) -> list[str]:
    """Of each kind one, at the same moment, and in the next hour one more."""
    image = sender.upload()
    sender.finish_job()
    sender.delete()
    sender.put(b"nonsense")
    scene.until(sender.send, "events are answered")
    scene.until(lambda: scene.has_row(image), "the image is tagged")
    scene.clock(ONE)
    told = {"fp.upload": 1, "fp.delete": 1, "fs.workflow": 1}
    scene.until(lambda: scene.digested() == told, "they are dealt with")
    image = sender.upload()
    scene.until(sender.send, "the later one is answered")
    scene.until(lambda: scene.has_row(image), "its image is tagged")
    scene.clock(AFTER_ALL)
    scene.until(lambda: scene.digested() == told | {"fp.upload": 2}, "it is dealt with")
    scene.end()
    scene.check()
    return scene.points()


def receive_for_a_run(scene: Scene) -> list[str]:
    """The result of a job that a run has started and waits for."""
    sender = Sender(scene)
    scene.clock(NOON)
    scene.start("worker")
    scene.start_doomed(*sender.serve)
    sandbox = scene.site.sandbox
    sandbox.webhooks({"url": sender.url, "secret": SECRET, "actions": ["fs.workflow"]})
    handle = sandbox.upload(PIXEL)
    scene.due[f"filestack:{handle}"] = 1
    workflow = ("--engine", "filestack-workflow", "--workflow-id", WORKFLOW)
    scene.start("run", "-", "--run-id", "own", "--detach", *workflow, said=handle.encode())
    scene.until(lambda: scene.delivered(handle), "the result is answered")
    scene.until(lambda: scene.runs() and scene.is_over(), "the run is finished")
    scene.clock(ONE)
    scene.until(lambda: scene.digested() == {"fs.workflow": 1}, "it is dealt with")
    scene.end()
    scene.check()
    return scene.points()


# --- the tests --------------------------------------------------------------------------------------------

PLAYS = (listen_to_a_queue, listen_again_later, listen_to_webhooks, seal, receive, receive_for_a_run)
HOUR = "runs/events-uploads-20261122t12z/passes/0000"
SHARPEST: list[tuple[Play, str]] = [
    (listen_to_a_queue, f"after create {HOUR}/plan/00000000.jsonl.gz"),
    (listen_to_a_queue, "after DeleteMessageBatch 10"),
    (seal, f"after create {HOUR}/plan/00000001.jsonl.gz"),
    (receive, "after create webhooks/received/20261122/12/*/00000001.jsonl.gz"),
]


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisUnderTest, s3_server: S3UnderTest
) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), redis_server, s3_server) as site:
        yield site


def perform(play: Play, site: Site, folder: Path, point: str | None = None) -> list[str]:
    with site.scene(folder, point) as scene, scene.deployment.explained():
        return play(scene)


@pytest.mark.parametrize(("play", "point"), SHARPEST)
def test_nothing_acknowledged_is_lost_or_doubled(site: Site, tmp_path: Path, play: Play, point: str) -> None:
    perform(play, site, tmp_path, point)


def apart(points: Sequence[str]) -> Iterator[str]:
    """Nothing lies between the end of an operation and the beginning of the next one: one death will do."""
    for point, following in itertools.zip_longest(points, points[1:], fillvalue=""):
        if not (point.startswith("after") and following.startswith("before")):
            yield point


@pytest.mark.long
@pytest.mark.parametrize("play", PLAYS)
def test_nor_is_it_at_any_point(site: Site, tmp_path: Path, subtests: pytest.Subtests, play: Play) -> None:
    points = perform(play, site, tmp_path)
    assert {point for of, point in SHARPEST if of is play} <= set(points)
    for point in apart(points):
        with subtests.test(point):
            perform(play, site, tmp_path, point)
