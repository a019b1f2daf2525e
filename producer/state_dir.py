"""The folder of the embedded mode: one run or listener at a time, found again by `status`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from tagmill.worker.errors import ConfigError, RunError


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a running embedded `tagmill run` or `tagmill listen` says of itself."""

    pid: int
    run_id: str  #: that it works on; what all begin with that events plan
    redis_url: str


def state_dir(setting: Path | None) -> Path:
    if setting is not None:
        return setting
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "tagmill"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Raise `ConfigError`, naming the pid, while another embedded run goes on; `RunError` without room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+b", buffering=0)
    except OSError as error:
        raise ConfigError(f"TAGMILL_STATE_DIR {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ConfigError(
                f"another run is going on here (pid {lock.read().decode() or 'unknown'}); wait for it, "
                "or give this one its own TAGMILL_STATE_DIR"
            ) from None
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except OSError as error:
            raise RunError(f"TAGMILL_STATE_DIR {folder}: {error.strerror}; free some space") from None
        try:
            yield
        finally:
            _file(folder).unlink(missing_ok=True)


def refuse_second(folder: Path) -> None:
    """Raise `ConfigError` while a run goes on here, before the new one leaves any trace."""
    with locked(folder):
        return


def announce(folder: Path, run_id: str, redis_url: str) -> None:
    temporary = folder / "embedded.json.new"
    temporary.write_bytes(orjson.dumps(asdict(Embedded(os.getpid(), run_id, redis_url))))
    temporary.rename(_file(folder))


def running(folder: Path) -> Embedded | None:
    """Return the embedded run that goes on here, if one does."""
    try:
        embedded = Embedded(**orjson.loads(_file(folder).read_bytes()))
        os.kill(embedded.pid, 0)
    except PermissionError:  # somebody else's process has that pid by now, or the file is not ours to read
        return None
    except (OSError, orjson.JSONDecodeError):
        return None
    return embedded


def _file(folder: Path) -> Path:
    return folder / "embedded.json"
