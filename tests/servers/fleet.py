"""The program as people run it: real processes, waited for by facts, never by sleeping."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import psutil
from servers import forked
from servers.forked import Forked
from servers.redis import RedisUnderTest, running_redis
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.sandbox.files import FileStore

WAIT_SECONDS = 60.0  #: for any fact; a healthy machine needs a fraction
POLL_SECONDS = 0.02  #: other processes give no sign of their own
TAIL_CHARACTERS = 3000
LATENCY_SECONDS = 0.15  #: of a call: long enough that a kill finds calls in flight, and work left
CLI = (sys.executable, "-m", forked.CLI)
#: Small, so that a death is noticed soon and little work is a whole chunk.
QUICK = {
    "TAGMILL_RATE": "1000/s",
    "TAGMILL_CHUNK_SIZE": "20",
    "TAGMILL_LEASE_SECONDS": "2",
    "TAGMILL_PROCESSES": "2",
    "TAGMILL_CONCURRENCY": "4",
    "TAGMILL_LOG_FORMAT": "json",
}
#: A PNG of one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: Of the one object that `--json` prints, in order.
SUMMARY_KEYS = [
    *("schema", "run_id", "state", "reason", "pass", "planned", "tagged", "failed", "skipped", "duplicate"),
    *("quarantined", "cancelled", "remaining", "calls", "maybe_charged", "unaccounted", "throttled", "cost"),
    *("writes", "duration_s", "run_dir", "manifest", "warnings", "saved", "incremental"),
]

Json = dict[str, Any]
T = TypeVar("T")


class Streams(NamedTuple):
    """The files that a program reads and writes instead of a terminal."""

    said: Path
    out: Path
    err: Path


Process = subprocess.Popen[bytes] | Forked


class Program:
    """One process of ours; what it prints is kept in files, so that it never waits for a reader."""

    def __init__(self, folder: Path, name: str, start: Callable[[Streams], Process]) -> None:
        self.name = name
        self._streams = Streams(*(folder / f"{name}.{stream}" for stream in Streams._fields))
        for stream in self._streams:
            stream.touch()  # it may be looked at before the program has begun
        self.process = start(self._streams)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._streams.out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._streams.err.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def json(self) -> Json:
        """The object that `--json` printed."""
        printed: Json = json.loads(self.stdout)
        return printed

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self, within: float = WAIT_SECONDS) -> int:
        """Return the exit code."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(within)
        raise AssertionError(f"{self.name} does not end within {within:g} s\n{self.tail()}")

    def descendants(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def tail(self) -> str:
        state = "running" if self.running else f"exit code {self.process.returncode}"
        return f"--- {self.name} ({state})\n{self.stdout[-TAIL_CHARACTERS:]}{self.stderr[-TAIL_CHARACTERS:]}"


def any_alive(processes: Iterable[psutil.Process]) -> bool:
    """Whether one of them is more than a zombie that nobody has reaped."""
    return any(_is_alive(process) for process in processes)


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Deployment:
    """One folder, one environment, and every process that a test starts in them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.store = folder / "store"
        own = {"TAGMILL_RUN_STORE": str(self.store), "TAGMILL_STATE_DIR": str(folder / "state")}
        self.environment = {**QUICK, **own, **environment}
        self.programs: list[Program] = []

    # --- processes ----------------------------------------------------------------------------------------

    def start(self, *arguments: str, said: bytes | None = b"", **settings: str) -> Program:
        """Start `tagmill ARGUMENTS`; `settings` are environment variables of this one process.

        `said` None: its standard input stays open, for the test to write to and close.
        """
        if said is None:
            return self.start_command([*CLI, *arguments], arguments[0], said=None, **settings)

        def start(streams: Streams) -> Process:
            streams.said.write_bytes(said)
            environment = {**os.environ, **self.environment, **settings}
            return Forked(forked.CLI, arguments, self.folder, environment, [*map(str, streams)])

        return self._started(arguments[0], start)

    def start_command(
        self, command: Sequence[str], name: str, *, said: bytes | None = b"", **settings: str
    ) -> Program:
        def start(streams: Streams) -> Process:
            with streams.out.open("wb") as out, streams.err.open("wb") as err:
                return subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env={**os.environ, **self.environment, **settings},
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,  # Ctrl-C for pytest is for pytest alone
                )

        program = self._started(name, start)
        if said is not None:
            with suppress(BrokenPipeError), program.stdin as stdin:
                stdin.write(said)
        return program

    def _started(self, name: str, start: Callable[[Streams], Process]) -> Program:
        self.programs.append(program := Program(self.folder, f"{len(self.programs)}-{name}", start))
        return program

    def worker(self, **settings: str) -> Program:
        return self.start("worker", said=b"", **settings)

    def status(self, *arguments: str) -> Json:
        return self.finish(self.start("status", *arguments, "--json")).json

    def finish(self, program: Program, code: int = 0, within: float = WAIT_SECONDS) -> Program:
        """Wait for a program that must end with this code."""
        with self.explained():
            assert program.wait(within) == code
        return program

    def end(self) -> None:
        for program in self.programs:
            program.kill()

    # --- facts --------------------------------------------------------------------------------------------

    def until(self, fact: Callable[[], T], what: str, within: float = WAIT_SECONDS) -> T:
        """Wait until `fact` is true and return it."""
        deadline = time.monotonic() + within
        while not (value := fact()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within:g} s: {what}\n{self.tails()}")
            time.sleep(POLL_SECONDS)
        return value

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Show what every process said when an assertion fails."""
        try:
            yield
        except AssertionError as error:
            error.add_note(self.tails())
            raise

    def tails(self) -> str:
        return "\n".join(program.tail() for program in self.programs)

    def run(self, run_id: str) -> RunFiles:
        return RunFiles(self.store / "runs" / run_id)


@contextmanager
def deployed(folder: Path, **environment: str) -> Iterator[Deployment]:
    """Yield an empty deployment whose processes are gone afterwards."""
    deployment = Deployment(folder, environment)
    try:
        yield deployment
    finally:
        deployment.end()


@dataclass
class Fleet:
    """A Redis, a service with images, and a deployment that is pointed at both."""

    redis: RedisUnderTest
    sandbox: SandboxUnderTest
    deployment: Deployment
    handles: list[str]

    @property
    def ids(self) -> list[str]:
        return [f"filestack:{handle}" for handle in self.handles]

    @property
    def calls(self) -> int:
        """How often the service was called."""
        calls: int = self.sandbox.stats()["calls"]
        return calls

    def run_all(self, run_id: str, *arguments: str, **settings: str) -> Program:
        """Start `tagmill run` for every image there is."""
        said = "\n".join(self.handles).encode()
        return self.deployment.start("run", "-", "--run-id", run_id, *arguments, said=said, **settings)

    def hurry(self) -> None:
        """What was to be seen of slow calls was seen."""
        self.sandbox.faults(latency_ms=0)

    def await_calls(self, calls: int) -> None:
        """Wait until the service was called so often."""
        self.deployment.until(lambda: self.calls >= calls, f"{calls} calls")


@contextmanager
def running_fleet(
    folder: Path, images: int, settings: dict[str, str] | None = None, **sandbox: Any
) -> Iterator[Fleet]:
    """Yield a fleet without workers; `sandbox` configures its service, which caches nothing: all is paid."""
    data = folder / "sandbox"
    config = {"data_folder": str(data), "cache": False, "latency_seconds": LATENCY_SECONDS, **sandbox}
    handles = stock(data, images)
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(0, aof=True))
        service = stack.enter_context(running_sandbox(**config))
        addresses = {"TAGMILL_REDIS_URL": redis.url, **service.environment}
        deployment = stack.enter_context(deployed(folder, **addresses, **(settings or {})))
        yield Fleet(redis, service, deployment, handles)


# --- what a run left behind, read by nothing of the program's own -----------------------------------------


@dataclass(frozen=True)
class RunFiles:
    """A run's folder."""

    folder: Path

    @property
    def first_pass(self) -> Path:
        return self.folder / "passes" / "0000"

    def parts(self) -> list[str]:
        return _names(self.first_pass / "parts")

    def plan(self) -> dict[str, bytes]:
        """Every file of the plan, as it is on disk."""
        names = _names(self.first_pass / "plan")
        return {name: (self.first_pass / "plan" / name).read_bytes() for name in names}

    @property
    def planned(self) -> bool:
        return (self.first_pass / "plan.json").exists()

    @property
    def finished(self) -> bool:
        return (self.first_pass / "_SUCCESS").exists() and (self.folder / "summary.json").exists()

    def rows(self) -> list[Json]:
        return [json.loads(line) for line in (self.folder / "manifest.jsonl").read_text().splitlines()]

    def shards(self) -> list[Json]:
        """Rows of the compacted shards, in shard order."""
        return _unpacked(self.first_pass / "manifest")

    def undo(self) -> list[Json]:
        """What stood at our own keys before the run's first pass."""
        return _unpacked(self.first_pass / "undo")

    def summary(self) -> Json:
        found: Json = json.loads((self.folder / "summary.json").read_text())
        return found

    def controls(self) -> list[Json]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "control").glob("*.json"))]


def _unpacked(folder: Path) -> list[Json]:
    packed = (gzip.decompress(file.read_bytes()) for file in sorted(folder.glob("*.jsonl.gz")))
    return [json.loads(line) for lines in packed for line in lines.splitlines()]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if not path.name.startswith(".tmp-"))


def assert_whole(run: RunFiles, ids: Iterable[str]) -> list[Json]:
    """Every planned image exactly once and in plan order, in view and shards alike; return the rows."""
    rows = run.rows()
    assert [row["id"] for row in rows] == list(ids)
    assert rows == run.shards()
    assert [(row["shard"], row["index"]) for row in rows] == sorted((r["shard"], r["index"]) for r in rows)
    summary, by_status = run.summary(), Counter(row["status"] for row in rows)
    assert summary["state"] == "completed"
    assert {name: summary[name] for name in by_status} == by_status
    assert (summary["planned"], summary["remaining"]) == (len(rows), 0)
    return rows


def assert_all_tagged(run: RunFiles, ids: Iterable[str]) -> list[Json]:
    rows = assert_whole(run, ids)
    assert [row["error"] for row in rows if row["status"] != "tagged"] == []
    return rows


def assert_every_call_counted(run: RunFiles, calls: int) -> None:
    """`calls` is what the service saw; those of unknown fate may or may not have arrived there."""
    summary = run.summary()
    assert summary["calls"] - summary["maybe_charged"] <= calls <= summary["calls"]


# --- images -----------------------------------------------------------------------------------------------


def stock(folder: Path, count: int) -> list[str]:
    """Put pictures into a sandbox's data folder before it starts; return their handles."""
    files = FileStore(str(folder))
    return [_stored(files, number) for number in range(count)]


def _stored(files: FileStore, number: int) -> str:
    incoming = files.scratch()
    Path(incoming).write_bytes(PIXEL)
    return files.add(incoming, f"{number:05d}.png", "image/png").handle


def paid_twice(sandbox: SandboxUnderTest) -> int:
    """Billed calls beyond the first of each image, as the service counted them."""
    images = sandbox.stats(images=True)["images"]
    return sum(max(image["billed"] - 1, 0) for image in images.values())


def logged_calls(folder: Path) -> list[Json]:
    """The call record in a sandbox's data folder; it can be read after the sandbox was killed."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]
    return []
