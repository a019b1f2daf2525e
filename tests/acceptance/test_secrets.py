"""A canary in every credential, runs of every kind with everything going wrong: it appears nowhere."""

from __future__ import annotations

import base64
import gzip
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import redis
from servers import leaky_worker
from servers.fleet import PIXEL, Deployment, Program, deployed, stock
from servers.redis import RedisUnderTest, running_redis
from servers.s3 import S3UnderTest
from servers.sandbox import SandboxUnderTest, running_sandbox

SECRETS = {
    "Filestack key": "AcanaryKey7d41f0a9c25b",
    "Filestack secret": "canary-app-secret-93be60d1",
    "Redis password": "canary-redis-5fa1c877",
    "AWS key id": "AKIACANARY2Q7XN4M0PL",
    "AWS secret": "canaryAwsSecret/4c9d+1eb80f2a73",
    "AWS token": "canaryAwsToken//8e21b6f04d+97ac35=",
}
SIGNED = re.compile(rb"(?i)signature[:=][0-9a-f]{32,}|X-Amz-(?:Credential|Security-Token)=[\w%/+-]{16,}")
SAMPLING_SECONDS = 0.05
BAD_LUCK = ("404", "403", "text_200", "html", "unreadable", "reset_after", "500", "truncated")


def leaks(data: bytes) -> list[str]:
    """Names of the secrets in there, in whatever spelling."""
    found = [name for name, secret in SECRETS.items() if any(form in data for form in _forms(secret))]
    return found + [f"signed: {match[0]!r}" for match in SIGNED.finditer(data)]


def _forms(secret: str) -> set[bytes]:
    return {secret.encode(), quote(secret, safe="").encode(), base64.b64encode(secret.encode()).rstrip(b"=")}


def test_a_leak_would_be_found() -> None:
    for name, secret in SECRETS.items():
        for form in _forms(secret):
            assert leaks(b"..." + form + b"...") == [name]
    assert leaks(b"security=policy:abc,signature:" + b"0" * 64) != []


# --- the world in which it all happens --------------------------------------------------------------------


@dataclass
class World:
    deployment: Deployment
    server: RedisUnderTest
    sandbox: SandboxUnderTest
    s3: S3UnderTest
    bucket: str
    commands: list[bytes] = field(default_factory=list)  #: every write and read that Redis saw
    dump: list[bytes] = field(default_factory=list)
    arguments: set[str] = field(default_factory=set)  #: command lines of all our processes
    runs: dict[str, Program] = field(default_factory=dict)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url, password=SECRETS["Redis password"])

    def start(self, run_id: str, source: str, said: bytes = b"", **settings: str) -> None:
        settings["TAGMILL_STATE_DIR"] = str(self.deployment.folder / f"state-{run_id}")
        self.runs[run_id] = self.deployment.start("run", source, "--run-id", run_id, said=said, **settings)

    def finish(self, run_id: str, code: int) -> None:
        self.deployment.finish(self.runs[run_id], code=code)
        self.take_dump()

    def take_dump(self) -> None:
        with self.client() as client:
            for key in client.scan_iter(count=1000):
                self.dump += [key, client.dump(key) or b""]


@pytest.fixture
def world(tmp_path: Path, s3_server: S3UnderTest) -> Iterator[World]:
    folder = tmp_path
    with ExitStack() as stack:
        handles = stock(folder / "sandbox", 40)  # were half of the calls failures, calling would be off
        server = stack.enter_context(running_redis(0))
        with server.sync_client() as client:
            client.config_set("requirepass", SECRETS["Redis password"])
        sandbox = stack.enter_context(
            running_sandbox(
                api_key=SECRETS["Filestack key"],
                app_secret=SECRETS["Filestack secret"],
                data_folder=str(folder / "sandbox"),
                cache=False,
            )
        )
        url = server.url.replace("redis://", f"redis://:{SECRETS['Redis password']}@")
        settings = {
            **s3_server.environment,
            **sandbox.environment,
            "AWS_ACCESS_KEY_ID": SECRETS["AWS key id"],
            "AWS_SECRET_ACCESS_KEY": SECRETS["AWS secret"],
            "AWS_SESSION_TOKEN": SECRETS["AWS token"],
            "TAGMILL_REDIS_URL": url,
            "TAGMILL_LOG_LEVEL": "debug",
        }
        (folder / "desk").mkdir()
        deployment = stack.enter_context(deployed(folder / "desk", **settings))
        world = World(deployment, server, sandbox, s3_server, s3_server.bucket())
        stack.enter_context(_watched(world))
        _everything_goes_wrong(world, handles)
        yield world


def _everything_goes_wrong(world: World, handles: list[str]) -> None:
    deployment = world.deployment
    photos = deployment.folder / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes(PIXEL)
        world.s3.client().put_object(Bucket=world.bucket, Key=f"in/{number}.png", Body=PIXEL)
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    worker = deployment.start_command(
        [sys.executable, "-P", leaky_worker.__file__, handles[0]], "leaky-worker", said=b""
    )
    unlucky = zip(BAD_LUCK, handles[1::2], strict=False)
    world.sandbox.faults(
        *({"fault": fault, "images": [handle]} for fault, handle in unlucky),
        {"fault": "429", "times": 1, "images": [handles[10]]},
        {"fault": "503", "times": 1, "operation": "store"},
    )
    world.start("handles", "-", "\n".join([*handles, "no handle!"]).encode())
    world.start("bucket", f"s3://{world.bucket}/in/", TAGMILL_REDIS_URL="")  # with servers of their own
    world.start("folder", "photos", TAGMILL_REDIS_URL="")
    for run_id, code in (("handles", 1), ("bucket", 0), ("folder", 1)):
        world.finish(run_id, code)
    world.sandbox.faults({"fault": "401"})
    world.start("refused", "-", "\n".join(handles).encode())
    world.finish("refused", 7)
    worker.kill()


@contextmanager
def _watched(world: World) -> Iterator[None]:
    """Note what Redis is told, and the command lines of all processes while they live."""
    over = threading.Event()
    threads = [threading.Thread(target=watch, args=[world, over]) for watch in (_listen, _look)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _listen(world: World, over: threading.Event) -> None:
    """To what Redis itself tells of every command, in a form of its own that hides `AUTH`."""
    with world.client() as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        while not over.is_set():
            if connection.can_read(timeout=SAMPLING_SECONDS):
                world.commands.append(bytes(connection.read_response()))
        connection.disconnect()


def _look(world: World, over: threading.Event) -> None:
    while not over.wait(SAMPLING_SECONDS):
        for program in list(world.deployment.programs):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                for process in (psutil.Process(program.pid), *program.descendants()):
                    world.arguments.add(" ".join(process.cmdline()))


# --- where it must not be ---------------------------------------------------------------------------------


def test_the_canaries_appear_nowhere(world: World) -> None:
    """One world for all places: it takes many processes to make."""
    _the_secrets_were_in_use_and_everything_went_wrong(world)
    _no_output_holds_a_secret(world)
    _no_file_holds_a_secret(world)
    _redis_never_sees_a_secret(world)
    _no_object_holds_a_secret(world)
    _no_command_line_holds_a_secret(world)


def _the_secrets_were_in_use_and_everything_went_wrong(world: World) -> None:
    rows = world.deployment.run("handles").rows()
    assert {row["status"] for row in rows} == {"tagged", "failed"}
    assert {"internal", "missing", "bad_response"} <= {row["error"]["code"] for row in rows if row["error"]}
    assert world.deployment.run("handles").summary()["throttled"] >= 1
    assert world.deployment.run("bucket").summary()["writes"]["written"] == 4
    assert "paused (credentials)" in world.runs["refused"].stdout
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(world.server.url).ping()
    log = world.deployment.programs[0].stderr
    assert "cannot work with [redacted]" in log
    assert "connecting with [redacted]" in log
    assert "image_failed_unexpectedly" in log


def _no_output_holds_a_secret(world: World) -> None:
    programs = world.deployment.programs
    assert len(programs) == 5
    assert [program.name for program in programs if leaks((program.stdout + program.stderr).encode())] == []


def _no_file_holds_a_secret(world: World) -> None:
    """Plans, parts, manifests, summaries, sidecars, the log and the data of an embedded Redis."""
    files = [path for path in world.deployment.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"run.json", "manifest.jsonl", "summary.json", "0.png.tags.json", "redis.log"} <= names
    assert any(name.startswith("appendonly") for name in names)
    found = {str(path): leaks(_plain(path)) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _redis_never_sees_a_secret(world: World) -> None:
    assert len(world.commands) > 100
    seen: Any = [command for command in world.commands if leaks(command)]
    assert seen == []
    assert any(b"backfill" in command for command in world.commands)
    assert len(world.dump) > 10
    assert [value for value in world.dump if leaks(value)] == []


def _no_object_holds_a_secret(world: World) -> None:
    client = world.s3.client()
    for item in client.list_objects_v2(Bucket=world.bucket)["Contents"]:
        head = client.head_object(Bucket=world.bucket, Key=item["Key"])
        assert "tagmill-tags" in head["Metadata"]
        assert leaks(repr(head).encode()) == []


def _no_command_line_holds_a_secret(world: World) -> None:
    everything = "\n".join(world.arguments)
    for part in ("leaky_worker", "tagmill.worker.serve", "redis-server"):
        assert part in everything
    assert leaks(everything.encode()) == []
