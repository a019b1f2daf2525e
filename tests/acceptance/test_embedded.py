"""`tagmill run` on its own: a private Redis, a worker and the sandbox come, do the work, and go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from servers.fleet import (
    PIXEL,
    SUMMARY_KEYS,
    Deployment,
    Json,
    Program,
    any_alive,
    assert_all_tagged,
    assert_whole,
    deployed,
    logged_calls,
    stock,
)
from servers.s3 import S3UnderTest
from servers.sandbox import SandboxUnderTest, running_sandbox

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
IN_FLIGHT = 2 * 4  #: processes and lanes
CHUNK = 20


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, TAGMILL_CHUNK_SIZE="10") as deployment:
        yield deployment


# --- whole runs -------------------------------------------------------------------------------------------


def test_a_folder_is_tagged_into_sidecars_and_a_manifest(deployment: Deployment) -> None:
    library = deployment.folder / "photos"
    shutil.copytree(PHOTOS, library, ignore=shutil.ignore_patterns("*.tags.json"))  # of a demonstration
    photos = sorted(str(path.relative_to(library)) for path in library.rglob("*") if path.is_file())

    run = deployment.finish(deployment.start("run", "photos", "--run-id", "photos", "--json"), code=1)

    with deployment.explained():
        rows = assert_whole(deployment.run("photos"), [f"file://{library / photo}" for photo in photos])
        by_path = {row["source"]["path"]: row for row in rows}
        assert by_path.pop("damaged.jpg")["status"] == "failed"
        assert by_path.pop("notes.jpg")["status"] == "skipped"
        for path, row in by_path.items():
            assert (row["status"], row["engine"], row["transfer"]) == ("tagged", "sandbox", "upload")
            assert json.loads((library / f"{path}.tags.json").read_text())["tags"] == row["tags"]
        assert len(list(library.rglob("*.tags.json"))) == len(by_path) == run.json["tagged"]
        assert list(run.json) == SUMMARY_KEYS
        assert run.json == deployment.run("photos").summary()
        failures = (deployment.run("photos").folder / "failures.jsonl").read_text().splitlines()
        assert [json.loads(line)["source"]["path"] for line in failures] == ["damaged.jpg"]
        calls = logged_calls(deployment.folder / "state" / "sandbox")
        assert len(calls) == run.json["calls"] == len(photos) - 1  # what is no image is not asked for
        assert not stored_files(deployment)  # uploads are removed again


def stored_files(deployment: Deployment) -> list[Path]:
    return [path for path in (deployment.folder / "state/sandbox/files").rglob("*") if path.is_file()]


def test_a_bucket_is_tagged_through_signed_links_and_all_else_is_preserved(
    tmp_path: Path, s3_server: S3UnderTest
) -> None:
    bucket, client = s3_server.bucket(), s3_server.client()
    keys = [f"in/ü {number} +%.png" for number in range(12)]
    for key in keys:
        client.put_object(
            Bucket=bucket,
            Key=key,
            Body=(PHOTOS / "clock.png").read_bytes(),
            ContentType="image/png",
            CacheControl="max-age=60",
            ContentDisposition="inline",
            ContentLanguage="de",
            Metadata={"owner": "somebody else"},
            Tagging="team=blue",
        )
    client.put_object(Bucket=bucket, Key="in/broken.png", Body=b"\x89PNG\r\n\x1a\n broken")
    before = {key: look(s3_server, bucket, key) for key in keys}
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox())
        deployment = stack.enter_context(deployed(tmp_path, **sandbox.environment, **s3_server.environment))

        run = deployment.finish(
            deployment.start("run", f"s3://{bucket}/in/", "--run-id", "bucket", "--json"), code=1
        )

        with deployment.explained():
            ids = [f"s3://{bucket}/{key}" for key in sorted(["in/broken.png", *keys])]
            rows = {row["source"]["key"]: row for row in assert_whole(deployment.run("bucket"), ids)}
            assert rows.pop("in/broken.png")["status"] == "failed"
            for key, row in rows.items():
                after = look(s3_server, bucket, key)
                ours = {
                    name: value for name, value in after["Metadata"].items() if name.startswith("tagmill-")
                }
                assert tags_of(ours["tagmill-tags"]) == row["tags"]["auto"]
                assert (ours["tagmill-run"], ours["tagmill-schema"]) == ("bucket", "1")
                after["Metadata"] = {
                    name: after["Metadata"][name] for name in after["Metadata"].keys() - ours
                }
                assert after == before[key]
                assert (row["transfer"], row["writes"]["metadata"]["status"]) == ("url", "written")
            assert run.json["writes"]["written"] == len(keys)
            assert sandbox.stats()["calls"] == run.json["calls"] == len(ids)
            assert "Signature" not in (deployment.run("bucket").folder / "manifest.jsonl").read_text()


def look(s3: S3UnderTest, bucket: str, key: str) -> Json:
    """All that is kept of an object, but for what every write changes."""
    client = s3.client()
    head: dict[str, Any] = dict(client.head_object(Bucket=bucket, Key=key))
    for name in ("ResponseMetadata", "LastModified"):
        head.pop(name, None)
    tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return {**head, "tags": tags, "body": body}


def tags_of(text: str) -> dict[str, int]:
    pairs = (pair.rpartition(":") for pair in text.split(","))
    return {unquote(label): int(confidence) for label, _, confidence in pairs}


def library(deployment: Deployment, images: int) -> list[str]:
    """Make a folder of pictures; return their ids."""
    folder = deployment.folder / "library"
    folder.mkdir()
    files = [folder / f"{number:05d}.png" for number in range(images)]
    for file in files:
        file.write_bytes(PIXEL)
    return [f"file://{file}" for file in files]


# --- while it goes on -------------------------------------------------------------------------------------


@dataclass
class Service:
    """A sandbox with images, and a deployment without a fleet that is pointed at it."""

    sandbox: SandboxUnderTest
    deployment: Deployment
    handles: list[str]

    @property
    def ids(self) -> list[str]:
        return [f"filestack:{handle}" for handle in self.handles]

    def start(self, *arguments: str, **settings: str) -> Program:
        said = "\n".join(self.handles).encode()
        return self.deployment.start("run", "-", *arguments, said=said, **settings)

    def await_calls(self, calls: int) -> None:
        self.deployment.until(lambda: self.sandbox.stats()["calls"] >= calls, f"{calls} calls")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    data = tmp_path / "sandbox"
    handles = stock(data, 120)
    config = {"data_folder": str(data), "cache": False}
    with running_sandbox(**config) as sandbox, deployed(tmp_path, **sandbox.environment) as deployment:
        yield Service(sandbox, deployment, handles)


def test_a_run_is_shown_refuses_a_second_drains_at_ctrl_c_and_is_resumed(service: Service) -> None:
    deployment, sandbox = service.deployment, service.sandbox
    run = service.start("--run-id", "slow", "--json", TAGMILL_RATE="4/s")
    service.await_calls(4)
    children = run.descendants()

    shown = deployment.status()
    second = deployment.finish(service.start(), code=2)
    run.interrupt()

    deployment.finish(run, code=130, within=30)
    with deployment.explained():
        assert (shown["run_id"], shown["state"], shown["planned"]) == ("slow", "running", len(service.ids))
        assert f"pid {run.pid}" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert [folder.name for folder in (deployment.store / "runs").iterdir()] == ["slow"]
        assert (run.json["state"], run.json["reason"]) == ("paused", "interrupted")
        assert 0 < run.json["remaining"] < len(service.ids)
        assert 0 <= sandbox.stats()["calls"] - run.json["calls"] < 2 * CHUNK  # of chunks that are parked
        assert not any_alive(children)
        afterwards = deployment.finish(deployment.start("status", "slow"))
        assert "what they paid is kept" in afterwards.stderr

    resumed = deployment.finish(deployment.start("run", "--resume", "slow", "--json"))
    with deployment.explained():
        assert_all_tagged(deployment.run("slow"), service.ids)
        assert sandbox.stats()["billed"] == resumed.json["calls"] == len(service.ids)
        assert resumed.json["maybe_charged"] == 0


def test_a_second_ctrl_c_aborts_calls_in_flight(service: Service) -> None:
    deployment, answered = service.deployment, 20
    service.sandbox.faults({"fault": "hang", "seconds": 120, "images": service.handles[answered:]})
    run = service.start("--run-id", "hung")
    service.await_calls(answered + IN_FLIGHT)
    children = run.descendants()
    run.interrupt()
    deployment.until(lambda: "once more" in run.stderr, "the first Ctrl-C is answered")

    run.interrupt()

    deployment.finish(run, code=130, within=30)
    deployment.until(lambda: not any_alive(children), "nothing is left behind")
    service.sandbox.faults()
    deployment.finish(deployment.start("run", "--resume", "hung"))
    with deployment.explained():
        assert "Traceback" not in run.stderr
        assert "tagmill run --resume hung" in run.stderr.splitlines()[-1]
        assert_all_tagged(deployment.run("hung"), service.ids)
        assert service.sandbox.stats()["calls"] <= len(service.ids) + IN_FLIGHT


@pytest.mark.long
def test_a_worker_that_dies_is_replaced_and_its_lease_is_not_waited_for(service: Service) -> None:
    deployment, patience = service.deployment, {"TAGMILL_LEASE_SECONDS": "600"}
    run = service.start("--run-id", "replaced", TAGMILL_RATE="40/s", **patience)
    service.await_calls(10)

    worker_of(run).kill()

    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("replaced"), service.ids)
        assert service.sandbox.stats()["calls"] <= len(service.ids) + IN_FLIGHT


def worker_of(run: Program) -> psutil.Process:
    """The main process of the worker that a run started for itself."""
    children = psutil.Process(run.pid).children()
    return next(child for child in children if "tagmill.worker.serve" in child.cmdline())


@pytest.mark.long
def test_a_run_that_was_killed_before_it_had_its_list_was_never_there(service: Service) -> None:
    deployment, store = service.deployment, service.deployment.store / "runs"
    run = deployment.start("run", "-", "--run-id", "again", said=None)
    with run.stdin:
        deployment.until(lambda: list(store.glob("again/input/.tmp-*")), "the list is being copied")
        run.kill()

    deployment.finish(deployment.start("run", "--resume", "again"), code=3)
    deployment.finish(service.start("--run-id", "again"))
    with deployment.explained():
        assert_all_tagged(deployment.run("again"), service.ids)


def test_a_killed_run_leaves_no_process_behind_and_resume_finishes_it(deployment: Deployment) -> None:
    ids = library(deployment, 120)
    run = deployment.start("run", "library", "--run-id", "killed", TAGMILL_RATE="20/s")
    log = deployment.folder / "state" / "sandbox"
    deployment.until(lambda: len(logged_calls(log)) >= 30, "calls are made")
    children = run.descendants()
    commands = " ".join(word for child in children for word in child.cmdline())
    assert all(server in commands for server in ("redis-server", "tagmill.sandbox", "tagmill.worker.serve"))

    run.kill()

    deployment.until(lambda: not any_alive(children), "nothing is left behind")
    calls = len(logged_calls(log))
    assert calls < len(ids)
    resumed = deployment.finish(deployment.start("run", "--resume", "killed", "--json"))
    with deployment.explained():
        assert_all_tagged(deployment.run("killed"), ids)
        calls += len(logged_calls(log))
        assert calls <= len(ids) + IN_FLIGHT
        assert resumed.json["calls"] - resumed.json["maybe_charged"] <= calls <= resumed.json["calls"]
