"""One run at a time in a state folder, and whoever looks finds it while it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tagmill.producer.state_dir import announce, locked, refuse_second, running, state_dir
from tagmill.worker.errors import ConfigError

#: Holds the lock until its standard input ends.
_HOLDER = """
import sys
from pathlib import Path
from tagmill.producer.state_dir import announce, locked
with locked(Path(sys.argv[1])):
    announce(Path(sys.argv[1]), "its-run", "unix:///its.sock")
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """By another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "yet"


def test_the_folder_is_the_setting_or_where_the_system_keeps_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_dir(tmp_path) == tmp_path
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir(None) == tmp_path / "tagmill"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir(None) == tmp_path / ".local" / "state" / "tagmill"


def test_a_second_run_is_refused_with_the_pid_of_the_first(folder: Path) -> None:
    with held(folder) as holder:
        for refused in (locked(folder).__enter__, lambda: refuse_second(folder)):
            with pytest.raises(ConfigError, match=rf"\(pid {holder.pid}\)"):
                refused()
        found = running(folder)
        assert found is not None
        assert (found.pid, found.run_id, found.redis_url) == (holder.pid, "its-run", "unix:///its.sock")
    with locked(folder):
        pass


def test_a_run_that_ends_leaves_the_folder_free(folder: Path) -> None:
    for run_id in ("first", "second"):
        with locked(folder):
            announce(folder, run_id, "unix:///x.sock")
            found = running(folder)
            assert found is not None
            assert (found.run_id, found.pid) == (run_id, os.getpid())
        assert running(folder) is None


def test_a_run_that_was_killed_leaves_the_folder_free(folder: Path) -> None:
    with held(folder) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert running(folder) is None  # what it said of itself is still there
        refuse_second(folder)
        with locked(folder):
            announce(folder, "next", "unix:///x.sock")


def test_looking_before_anything_ran_finds_nothing(folder: Path) -> None:
    assert running(folder) is None
    folder.mkdir(parents=True)
    (folder / "embedded.json").write_bytes(b"half a li")
    assert running(folder) is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"^TAGMILL_STATE_DIR .*/file"), locked(tmp_path / "file"):
        pass
