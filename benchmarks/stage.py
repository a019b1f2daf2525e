"""A fleet on this machine: Redis, the sandbox in load mode, a run store, a worker. Gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from servers.redis import RedisUnderTest, running_redis
from servers.sandbox import SandboxUnderTest, running_sandbox

from benchmarks.consumption import Tree, peaks
from benchmarks.handles import made_up_handles

RUN_ID = "benchmark"
WAIT_SECONDS = 300.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Stage:
    redis: RedisUnderTest
    sandbox: SandboxUnderTest
    folder: Path

    def environment(self, **settings: Any) -> dict[str, str]:
        """For a process that works here: nobody's settings but these, in lower case, without the prefix."""
        own = {
            **self.sandbox.environment,
            "TAGMILL_REDIS_URL": self.redis.url,
            "TAGMILL_RUN_STORE": str(self.folder / "runs"),
            "TAGMILL_LOG_LEVEL": "warning",
            **{f"TAGMILL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        return without_settings() | own

    def redis_bytes(self) -> float:
        with self.redis.sync_client() as client:
            memory: Any = client.info("memory")
            return float(memory["used_memory"])

    def plan_handles(self, images: int, **settings: Any) -> Spent:
        """Plan a run over made-up handles and leave it to the fleet."""
        listed = self.folder / "handles.txt"
        listed.write_text("".join(f"{handle}\n" for handle in made_up_handles(images)))
        return self.plan(listed, **settings)

    def plan(self, source: Path, **settings: Any) -> Spent:
        command = [*program("tagmill.producer.cli.main"), "run", str(source), "--run-id", RUN_ID]
        return spent_by([*command, "--detach", "--shared-path"], self.environment(**settings))

    def worker(self, **settings: Any) -> contextlib.AbstractContextManager[int]:
        """Return the pid of a worker of the fleet."""
        return running(program("tagmill.worker.serve"), self.environment(**settings))

    def await_calls(self, count: int) -> None:
        await_(lambda: self.sandbox.stats()["calls"] >= count)

    def await_manifest(self) -> None:
        await_((self.folder / "runs/runs" / RUN_ID / "summary.json").exists)


@dataclass(frozen=True, slots=True)
class Spent:
    seconds: float
    peak_mb: float


def spent_by(command: Sequence[str], environment: dict[str, str]) -> Spent:
    """Run a command to its end."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    with peaks({"mb": Tree(process.pid).resident_mb}) as peak:
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[2]} ended with exit code {process.returncode}")
    return Spent(time.monotonic() - started, peak["mb"])


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
    """Yield the pid; the process and its children are killed afterwards: nobody needs what they leave."""
    process = subprocess.Popen(
        command, env=environment, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def program(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def without_settings() -> dict[str, str]:
    """Return the environment at hand, less what an operator set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TAGMILL_")}


def await_(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not come():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waited in vain")
        time.sleep(LOOK_SECONDS)
