"""The embedded default: a private Redis, a worker and, for trials, the sandbox; gone when their user is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Self

import orjson
import structlog
from pydantic import SecretStr

from tagmill.config.celery import LANES
from tagmill.config.environment import child_environment
from tagmill.config.settings import Settings
from tagmill.producer.display import Print
from tagmill.producer.preparation import account_rate
from tagmill.producer.redis_server import RedisServer
from tagmill.producer.state_dir import locked, state_dir
from tagmill.worker.account import settle_budget
from tagmill.worker.errors import ConfigError, RedisUnavailableError, RunError, RunStoreUnavailableError
from tagmill.worker.orphans import die_with_parent
from tagmill.worker.rate import Rate
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.runs import Runs, RunSpec

SANDBOX = "sandbox"
FOR_RUN, FOR_EVENTS = "--run", "--events"  #: what a worker is for
_READY_SECONDS = 20.0
_CELERYS_OWN = "worker: "  #: what it prints beside its log when it is told to stop
_QUICK_SECONDS = 15.0
_MOST_QUICK_DEATHS = 3
_STOP_SECONDS = 30.0  #: beyond the timeout of calls in flight

log = structlog.get_logger()


class Embedded:
    """A context manager. `settings` are those of the worker; `supervise` brings back what died."""

    def __init__(self, settings: Settings, folder: Path, *, engine: str, print_line: Print) -> None:
        self.settings = settings
        self._folder, self._engine, self._print = folder, engine, print_line
        self._redis = RedisServer(folder / "redis")
        self._sandbox: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._work: tuple[str, ...] = ()
        self._started_at = 0.0
        self._quick_deaths = 0

    @property
    def redis_url(self) -> str:
        return self._redis.url

    def __enter__(self) -> Self:
        try:
            self._redis.start()
            self.settings = self.settings.model_copy(update={"redis_url": self._redis.url})
            if self._engine == SANDBOX:
                self._start_sandbox()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_worker()
        if self._sandbox is not None:
            self._sandbox.kill()
            self._sandbox.wait()
        self._redis.stop()

    def start_worker(self, *work: str) -> None:
        """`work`: `FOR_RUN` and its id, or `FOR_EVENTS`."""
        self._work, self._started_at = work, time.monotonic()
        self._worker = self._spawn([sys.executable, "-m", "tagmill.worker.serve", *work], self.settings)

    def supervise(self) -> None:
        """Restart Redis, with what its append-only file kept, and the worker, if they died."""
        if not self._redis.alive:
            self._redis.start()
        if self._worker is not None and self._worker.poll() is not None:
            self._quick_deaths = self._quick_deaths + 1 if self._age() < _QUICK_SECONDS else 0
            if self._quick_deaths == _MOST_QUICK_DEATHS:
                raise RunError("the worker ends as soon as it starts; its last lines above say why")
            self._forget_dead_worker()
            self.start_worker(*self._work)

    def _forget_dead_worker(self) -> None:
        """Nobody else works here: its chunks need not wait for the end of their leases."""
        with contextlib.suppress(RedisUnavailableError):
            board = Board(connect_checked(self._redis.url), Keys(self.settings.redis_prefix), *LANES)
            board.drop_queue()

    def _age(self) -> float:
        """Seconds since the worker was started."""
        return time.monotonic() - self._started_at

    def stop_worker(self) -> None:
        """Let calls in flight finish, within bounds; `kill_worker` may cut that short meanwhile."""
        if self._worker is None:
            return
        self._worker.terminate()
        try:
            self._worker.wait(self.settings.call_timeout + _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        self._worker = None

    def kill_worker(self) -> None:
        """End calls in flight; each may have been paid."""
        if self._worker is not None:
            self._worker.kill()

    def settle_budget(self, spec: RunSpec, runs: Runs) -> None:
        """Put back what is open of the run's grants, once its worker is gone."""
        try:
            asyncio.run(settle_budget(self.settings, spec, runs))
        except (RedisUnavailableError, RunStoreUnavailableError) as error:
            log.warning("open_grants_lost", error=str(error))

    def _start_sandbox(self) -> None:
        ready = self._folder / "sandbox.json"
        ready.unlink(missing_ok=True)
        key, secret = f"A{secrets.token_hex(10)}z", secrets.token_hex(16)
        config = {"port": 0, "api_key": key, "app_secret": secret, "data_folder": str(self._folder / SANDBOX)}
        command = [sys.executable, "-m", "tagmill.sandbox", "--config", "-", "--ready-file", str(ready)]
        self._sandbox = self._spawn(command, self.settings, orjson.dumps(config))
        url = _await_url(ready, self._sandbox)
        self.settings = self.settings.model_copy(
            update={
                "filestack_api_key": SecretStr(key),
                "filestack_app_secret": SecretStr(secret),
                "filestack_cdn_url": url,
                "filestack_api_url": f"{url}/api",
            }
        )

    def _spawn(self, command: list[str], settings: Settings, said: bytes = b"") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            env=child_environment(settings, os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we tell the others
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock, no import
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        with process.stdin:
            process.stdin.write(said)
        threading.Thread(target=self._relay, args=[process.stdout], daemon=True).start()
        return process

    def _relay(self, stream: IO[bytes]) -> None:
        """Pass log lines on to where ours go, without tearing a progress bar."""
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            if text and not text.startswith(_CELERYS_OWN):
                self._print(text)


@contextlib.contextmanager
def embedded_servers(settings: Settings, spec: RunSpec, print_line: Print) -> Iterator[Embedded]:
    """Yield servers for that run, or one like it. Raise `ConfigError` while others go on here."""
    folder = state_dir(settings.state_dir)
    account = account_rate(settings, spec.engine, Rate.parse(spec.rate) if spec.rate else None)
    # Its log lines would bury ours: unless a level was asked for, only warnings are shown.
    level = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    of_worker = settings.model_copy(update={"rate": account, "log_level": level})
    with locked(folder), Embedded(of_worker, folder, engine=spec.engine, print_line=print_line) as embedded:
        yield embedded


def _await_url(ready: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if ready.exists():
            described: Mapping[str, str] = orjson.loads(ready.read_bytes())
            return described["url"]
        time.sleep(0.02)
    raise ConfigError("the sandbox did not start; `tagmill sandbox` shows why")
