"""A fleet on this machine: Redis, the sandbox in load mode, a run store, a worker. Gone afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.redis import RedisUnderTest, running_redis
from servers.sandbox import SandboxUnderTest, running_sandbox

from benchmarks.consumption import MB

WAIT_SECONDS = 300.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Stage:
    redis: RedisUnderTest
    sandbox: SandboxUnderTest
    folder: Path

    def environment(self, **settings: Any) -> dict[str, str]:
        """For a process that works here; settings in lower case, without the prefix."""
        own = {
            **self.sandbox.environment,
            "TAGMILL_REDIS_URL": self.redis.url,
            "TAGMILL_RUN_STORE": str(self.folder / "runs"),
            "TAGMILL_LOG_LEVEL": "warning",
            **{f"TAGMILL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        return bare_environment() | own

    def redis_bytes(self) -> float:
        with self.redis.sync_client() as client:
            return float(client.info("memory")["used_memory"])  # type: ignore[index] # redis-py types it as maybe awaitable

    def plan(self, images: int, **settings: Any) -> Planned:
        """Plan a run over made-up handles and leave it to the fleet."""
        listed = self.folder / "handles.txt"
        listed.write_text("".join(f"{handle}\n" for handle in made_up_handles(images)))
        command = [*program("tagmill.producer.cli.main"), "run", str(listed), "--run-id", RUN_ID, "--detach"]
        started = time.monotonic()
        process = subprocess.Popen(
            command, env=self.environment(**settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"planning ended with exit code {process.returncode}")
        return Planned(time.monotonic() - started, usage.ru_maxrss * 1024 / MB)

    def worker(self, processes: int, lanes: int, **settings: Any) -> contextlib.AbstractContextManager[int]:
        """Return the pid of a worker of the fleet."""
        environment = self.environment(processes=processes, concurrency=lanes, **settings)
        return running(program("tagmill.worker.serve"), environment)

    def await_first_call(self) -> None:
        await_(lambda: bool(self.sandbox.stats()["calls"]))

    def await_manifest(self) -> None:
        await_((self.folder / "runs/runs" / RUN_ID / "summary.json").exists)


@dataclass(frozen=True, slots=True)
class Planned:
    seconds: float
    peak_mb: float


RUN_ID = "benchmark"


@contextlib.contextmanager
def stage(**sandbox: Any) -> Iterator[Stage]:
    """`sandbox`: fields of its configuration."""
    with (
        running_redis(aof=True) as redis,
        running_sandbox(load=True, **sandbox) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        yield Stage(redis, server, Path(folder))


@contextlib.contextmanager
def running(command: Sequence[str], environment: dict[str, str]) -> Iterator[int]:
    """Yield the pid; the process and its children are gone afterwards."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def program(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def bare_environment() -> dict[str, str]:
    """The one at hand without anybody's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TAGMILL_")}


def made_up_handles(count: int) -> Iterator[str]:
    return (f"benchmark{number:011d}" for number in range(count))


def await_(come: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not come():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waited in vain")
        time.sleep(LOOK_SECONDS)
