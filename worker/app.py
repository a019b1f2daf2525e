"""The Celery application of a worker: its one task, and what each of its processes opens and closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down

from tagmill.config.celery import TAG_CHUNK, celery_settings
from tagmill.config.settings import Settings
from tagmill.worker.assembly import Assembly
from tagmill.worker.errors import ConfigError, TaggingError
from tagmill.worker.models import Chunk
from tagmill.worker.orphans import die_with_parent
from tagmill.worker.state.turns import Turns

log = structlog.get_logger()
T = TypeVar("T")


class WorkerProcess:
    """What one prefork child keeps: an event loop and the assembly that lives in it."""

    def __init__(self, settings: Settings, processes: int) -> None:
        self._settings, self._processes, self._worker = settings, processes, worker_name()
        #: Set in the parent when it shuts down; shared with its children, who then park their chunks.
        self.shutting_down = multiprocessing.get_context("fork").Event()
        self._runner: asyncio.Runner | None = None
        self._assembly: Assembly | None = None

    def open(self) -> None:
        die_with_parent()
        _collect_garbage_seldom()
        self._runner = asyncio.Runner(loop_factory=_loop_factory())
        self._assembly = self._runner.run(self._assemble())

    def close(self) -> None:
        if self._runner is not None and self._assembly is not None:
            self._runner.run(self._assembly.aclose())
            self._runner.close()

    def run(self, chunk: Chunk) -> str:
        return self._within(lambda assembly: assembly.run(chunk))

    def note(self, what: Callable[[Turns], Coroutine[Any, Any, None]]) -> None:
        """Say it where Redis answers: nothing depends on it."""
        with contextlib.suppress(TaggingError):
            self._within(lambda assembly: what(assembly.turns))

    def _within(self, work: Callable[[Assembly], Coroutine[Any, Any, T]]) -> T:
        if self._runner is None or self._assembly is None:
            raise ConfigError("the worker process was not opened")
        return self._runner.run(work(self._assembly))

    async def _assemble(self) -> Assembly:
        return Assembly(
            self._settings,
            processes=self._processes,
            shutting_down=self.shutting_down.is_set,
            worker=self._worker,
        )


def worker_name() -> str:
    """The worker of this process, which its children ask for before they are forked."""
    return f"{socket.gethostname()}-{os.getpid()}"


def create_app(settings: Settings, processes: int) -> Celery:
    """Raise `ConfigError` without a Redis."""
    if settings.redis_url is None:
        raise ConfigError("TAGMILL_REDIS_URL is not set: a worker belongs to a fleet")
    app = Celery("tagmill", set_as_current=True)
    app.conf.update(celery_settings(settings.redis_url, settings.redis_prefix))
    process = WorkerProcess(settings, processes)
    _connect_signals(process)

    @app.task(name=TAG_CHUNK)
    def tag_chunk(message: dict[str, Any]) -> None:
        """Work on one chunk. Redelivery is harmless; what goes wrong is refill's to repair."""
        try:
            chunk = Chunk.from_message(message)
        except ValueError as error:
            log.warning("message_not_understood", error=str(error))
            process.note(lambda turns: turns.leave(message.get("v")))
            return
        with structlog.contextvars.bound_contextvars(run_id=chunk.run_id, chunk=chunk.name):
            try:
                process.run(chunk)
            except TaggingError as error:
                log.warning("chunk_not_done", code=error.code, error=str(error))
            finally:
                process.note(Turns.end)

    return app


def _connect_signals(process: WorkerProcess) -> None:
    worker_process_init.connect(lambda **_: process.open(), weak=False)
    worker_process_shutdown.connect(lambda **_: process.close(), weak=False)
    worker_shutting_down.connect(lambda **_: process.shutting_down.set(), weak=False)


def _collect_garbage_seldom() -> None:
    """A chunk's rows live until its end: looking through them for cycles took a quarter of the CPU time."""
    gc.freeze()  # what the parent loaded stays
    gc.set_threshold(10_000, 20, 20)


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - not to be had everywhere
    except ImportError:
        return None
    return uvloop.new_event_loop
