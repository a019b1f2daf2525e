"""A real command of ours that dies at a chosen point: `mortal.py ARGUMENTS`, as of `tagmill`.

A point is the moment before or after an operation on what outlives the process: the run store, AWS, Redis,
and whoever sends a webhook. Those that are passed are noted in the file TRACE, each once; at POINT it dies.
Every public method of the run store, every call of AWS and every command of Redis is an operation by itself:
nobody has to name a new one. Those that only look are none: death before one is death before what follows.

The time of day is that of the file `clock`, and the process waits for nothing for long.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import botocore.client
import redis
import redis.asyncio
from servers.clocked_beat import read_clock
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagmill.producer.cli import main
from tagmill.producer.listeners import sqs
from tagmill.worker import refill
from tagmill.worker import serve as worker
from tagmill.worker.state import group_commit, leader
from tagmill.worker.store.event_runs import EventRuns, is_over
from tagmill.worker.store.folder import Folder
from tagmill.worker.webhooks import app, digesting, serve

POINT, TRACE = "MORTAL_POINT", "MORTAL_TRACE"  #: environment variables
LOOKS = {
    *("read", "open", "exists", "names", "folders", "leftovers"),
    *("GET", "MGET", "HGETALL", "HMGET", "HVALS", "LLEN", "SCARD", "ZRANGE", "BITCOUNT"),
    *("INFO", "PING", "TIME", "SCRIPT", "GetQueueAttributes", "ListObjectsV2"),
}
_RANDOM = re.compile(r"\b(?:[0-9a-f]{16}|[0-9A-Za-z]{20})\b")  #: tokens and handles

Label = Callable[..., str]


class Points:
    """Those of one process; of a worker without its children, and without Celery's own loop."""

    def __init__(self, command: str) -> None:
        self._deadly, self._trace = os.environ.get(POINT), Path(os.environ[TRACE])
        self._pid, self._but_main = os.getpid(), command == "worker"
        self._passed, self._one_at_a_time = set[str](), threading.Lock()

    def reach(self, when: str, operation: str) -> None:
        if os.getpid() != self._pid or (self._but_main and threading.current_thread() is _MAIN):
            return
        point = f"{when} {operation}"
        with self._one_at_a_time:
            if point in self._passed or _only_looks(operation):
                return
            self._passed.add(point)
            with self._trace.open("a") as trace:
                trace.write(f"{point}\n")
            if point == self._deadly:
                os.kill(self._pid, signal.SIGKILL)

    def watch(self, owner: type, method: str, label: Label, told: Label = lambda _: "") -> None:
        """`label`: of the method's arguments; `told`: of what it returned."""
        plain = getattr(owner, method)

        @functools.wraps(plain)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.reach("before", operation := label(*args, **kwargs))
            found = plain(*args, **kwargs)
            self.reach("after", operation + told(found))
            return found

        @functools.wraps(plain)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            self.reach("before", operation := label(*args, **kwargs))
            found = await plain(*args, **kwargs)
            self.reach("after", operation + told(found))
            return found

        setattr(owner, method, awaited if inspect.iscoroutinefunction(plain) else watched)


_MAIN = threading.main_thread()


def _only_looks(operation: str) -> bool:
    return operation.split(maxsplit=1)[0] in LOOKS


def watch_run_store(points: Points) -> None:
    for method, function in vars(Folder).copy().items():
        if inspect.isfunction(function) and not method.startswith("_"):
            points.watch(Folder, method, functools.partial(_of_files, method))


def _of_files(method: str, _: Folder, name: str = "", *__: Any) -> str:
    return f"{method} {_RANDOM.sub('*', name)}"


def watch_aws(points: Points) -> None:
    points.watch(botocore.client.BaseClient, "_make_api_call", _of_aws, _messages)


def _of_aws(_: Any, operation: str, parameters: Any) -> str:
    return f"{operation} {len(parameters['Entries'])}" if "Entries" in parameters else operation


def _messages(answer: Any) -> str:
    """How many were received; nothing of other answers."""
    return f" {len(answer['Messages'])}" if answer.get("Messages") else ""


def watch_redis(points: Points) -> None:
    for client in (redis.Redis, redis.asyncio.Redis):
        points.watch(client, "execute_command", lambda _, *command, **__: _of_redis(command))
    for pipeline in (redis.client.Pipeline, redis.asyncio.client.Pipeline):
        points.watch(pipeline, "execute", _of_pipeline)


def _of_pipeline(pipeline: Any, *_: Any) -> str:
    """Its first command that does something: what others there are may depend on the moment."""
    commands = [_of_redis(command) for command, _ in pipeline.command_stack]
    return next((command for command in commands if not _only_looks(command)), "PING")


def _of_redis(command: Sequence[Any]) -> str:
    """The command and what kind of key it is about: `SET refill-leader`."""
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in command]
    kinds = [
        word.split(":")[1] for word in words if word.startswith(os.environ["TAGMILL_REDIS_PREFIX"] + ":")
    ]
    return " ".join([words[0], *kinds[:1]])


def watch_requests(points: Points) -> None:
    build = app.create_app
    vars(serve)["create_app"] = lambda *parts: _observed(build(*parts), points)


def _observed(receiver: ASGIApp, points: Points) -> ASGIApp:
    numbers = itertools.count(1)

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        number = next(numbers) if scope["type"] == "http" else 0

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                points.reach("after", f"body {number}")
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                points.reach("before", f"answer {number}: {message['status']}")
            await send(message)
            if message["type"] == "http.response.body":
                points.reach("after", f"answer {number}")

        await receiver(scope, hear, say)

    return observed


def set_clocks() -> None:
    (EventRuns.__init__.__kwdefaults__ or {})["clock"] = read_clock
    vars(refill)["is_over"] = lambda spec, _: is_over(spec, read_clock())
    serve._now = read_clock


def hurry(command: str) -> None:
    """Miss the dead soon; what comes together within a moment is one batch, however busy the machine."""
    worker.TICK_SECONDS = refill.RUNS_SECONDS = 0.5
    refill.LEAST_LEADER_SECONDS = refill.LEADER_SECONDS = 4.0
    leader.LEADER_SECONDS = 2.0
    (refill.Refill.__init__.__kwdefaults__ or {})["grace_seconds"] = 1.0
    digesting.TICK_SECONDS = 0.1
    sqs.GATHER_SECONDS = 0.5
    sqs.Queue.receive.__defaults__ = (1,)  # the dead are handed messages until their polls are over
    if command == "serve":
        group_commit.GATHER_SECONDS = 0.1


if __name__ == "__main__":
    points, command = Points(sys.argv[1]), sys.argv[1]
    for watch in (watch_run_store, watch_aws, watch_redis, watch_requests):
        watch(points)
    set_clocks()
    hurry(command)
    main.main()
