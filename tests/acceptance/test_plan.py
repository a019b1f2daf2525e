"""A run that is planned, looked at, and started as it was shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from servers.fleet import PIXEL, Fleet, Program, assert_all_tagged, deployed, running_fleet
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

IMAGES = 12
PRICES = '{"put_per_1000": "0.005", "get_per_1000": "0.0004", "as_of": "2026-11-01"}'


class Library:
    """A bucket of images, each there twice, and a fleet that can reach it."""

    def __init__(self, fleet: Fleet, s3: StrictS3UnderTest, *, versioned: bool) -> None:
        self.fleet, self.s3, self.deployment = fleet, s3, fleet.deployment
        self.bucket, self.client = s3.new_bucket(versioned=versioned), s3.client()
        self.keys = sorted(f"in/{number % 3}/{number:02d}.png" for number in range(IMAGES))
        for place, key in enumerate(self.keys):
            self.put(key, PIXEL + bytes([place // 2]))

    def put(self, key: str, content: bytes = PIXEL) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType="image/png")

    @property
    def ids(self) -> list[str]:
        return [f"s3://{self.bucket}/{key}" for key in self.keys]

    def plan(self, run_id: str, *arguments: str, **settings: str) -> Program:
        where = f"s3://{self.bucket}/in/"
        return self.deployment.start(
            "plan", where, "--run-id", run_id, "--json", *arguments, said=b"", **settings
        )

    def start(self, run_id: str, *arguments: str, **settings: str) -> Program:
        return self.deployment.start("run", "--plan", run_id, "--json", *arguments, said=b"", **settings)


@contextmanager
def running_library(folder: Path, *, versioned: bool = False) -> Iterator[Library]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        settings = {**S3UnderTest(s3.url).environment, "TAGMILL_CHUNK_SIZE": "5"}
        fleet = stack.enter_context(running_fleet(folder, 0, settings, latency_seconds=0))
        yield Library(fleet, s3, versioned=versioned)


def test_a_plan_is_shown_left_alone_by_the_fleet_and_started_as_it_was_shown(tmp_path: Path) -> None:
    with running_library(tmp_path) as library:
        deployment = library.deployment
        options = ("--dedupe", "exact", "--price-per-1000", "1.50")
        shown = deployment.finish(library.plan("shown", *options, TAGMILL_S3_PRICES=PRICES)).json
        deployment.worker()
        library.put("in/later.png")

        other = deployment.start("run", f"s3://{library.bucket}/in/0/", "--run-id", "other", "--json")
        others = deployment.finish(other).json["calls"]

        with deployment.explained():
            assert (shown["images"], shown["calls"]) == (IMAGES, IMAGES // 2)
            assert shown["duplicates"] == {"images": IMAGES // 2, "bytes": (len(PIXEL) + 1) * IMAGES // 2}
            assert [one["folder"] for one in shown["folders"]["largest"]] == ["0/", "1/", "2/"]
            assert shown["cost"]["calls"] == 0.009
            assert shown["cost"]["s3"] > 0
            assert deployment.run("shown").parts() == []
            waiting = deployment.status("shown")
            assert (waiting["state"], waiting["reason"]) == ("paused", "planned")
            assert library.fleet.calls == others

        refused = deployment.finish(deployment.start("run", "--resume", "shown"), code=2)
        assert refused.stderr.splitlines()[-1].endswith("start it with `tagmill run --plan shown`")
        summary = deployment.finish(library.start("shown")).json

        with deployment.explained():
            rows = deployment.run("shown").rows()
            assert [row["id"] for row in rows] == library.ids
            asked = summary["calls"]
            assert summary["skipped"] == IMAGES // 3  # by the run of the others
            assert (library.fleet.calls, asked <= shown["calls"]) == (others + asked, True)
            assert summary["cost"] == asked * 1.5 / 1000
            assert deployment.status("shown") == summary

        again = deployment.finish(library.start("shown"), code=2)
        assert "was started already" in again.stderr


@pytest.mark.long
def test_what_a_plan_needs_to_be_allowed_is_asked_for_when_it_starts(tmp_path: Path) -> None:
    with running_library(tmp_path, versioned=True) as library:
        deployment = library.deployment
        shown = deployment.finish(library.plan("versions")).json
        assert shown["needed"] == ["--allow-new-versions"]
        assert any("keeps versions" in line for line in shown["effects"])

        refused = deployment.finish(library.start("versions"), code=2)
        assert "--allow-new-versions" in refused.stderr
        assert deployment.status("versions")["reason"] == "planned"
        objects = library.s3.store.buckets[library.bucket].objects
        assert {len(versions) for versions in objects.values()} == {1}

        deployment.worker()
        deployment.finish(library.start("versions", "--allow-new-versions"))
        with deployment.explained():
            assert_all_tagged(deployment.run("versions"), library.ids)


def test_a_plan_needs_no_credentials_and_its_start_does(tmp_path: Path) -> None:
    with running_strict_s3() as s3, deployed(tmp_path, **S3UnderTest(s3.url).environment) as deployment:
        bucket = s3.new_bucket()
        s3.client().put_object(Bucket=bucket, Key="a.png", Body=PIXEL)
        plan = deployment.start("run", f"s3://{bucket}", "-n", "--run-id", "early")
        assert "  calls: 1 and what is retried\n" in deployment.finish(plan).stdout
        start = deployment.finish(deployment.start("run", "--plan", "early"), code=2)
        assert "no Filestack credentials" in start.stderr
        assert deployment.status("early")["reason"] == "planned"


@pytest.mark.long
def test_a_plan_that_was_killed_is_finished_before_it_is_started(tmp_path: Path) -> None:
    with running_library(tmp_path) as library:
        deployment = library.deployment

        def kill() -> None:
            plan.kill()

        library.s3.faults.before("ListObjectsV2", lambda: None)  # is there anything at all?
        library.s3.faults.before("ListObjectsV2", kill)
        plan = library.plan("killed", TAGMILL_SHARD_SIZE="5")
        deployment.until(lambda: not plan.running, "the planner is killed")
        early = deployment.finish(library.start("killed"), code=2)
        assert "tagmill plan --resume killed" in early.stderr

        resumed = deployment.finish(deployment.start("plan", "--resume", "killed", "--json")).json
        shown = deployment.finish(deployment.start("plan", "--resume", "killed", "--json")).json
        deployment.worker()
        deployment.finish(library.start("killed"))

        with deployment.explained():
            assert resumed == shown
            assert resumed["images"] == IMAGES
            assert_all_tagged(deployment.run("killed"), library.ids)


def test_a_folder_is_planned_without_a_server_and_tagged_with_the_same_options(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number in range(6):
        (photos / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (photos / str(number % 2) / f"{number}.png").write_bytes(PIXEL + bytes([number]))
    (photos / "0" / "note.txt").write_text("no image")
    with deployed(tmp_path) as deployment:
        arguments = ["photos", "--limit", "5", "--write-back", "none"]
        plan = deployment.finish(deployment.start("plan", *arguments, "--run-id", "folder"))
        assert "passed over" in plan.stdout
        assert "start it with: tagmill run --plan folder" in plan.stdout
        assert not (tmp_path / "state").exists()
        (photos / "0" / "new.png").write_bytes(PIXEL)
        changed = deployment.finish(deployment.start("run", "--plan", "folder", "--limit", "6"), code=2)
        assert "goes on with what was planned" in changed.stderr

        summary = deployment.finish(deployment.start("run", "--plan", "folder", "--json")).json

        with deployment.explained():
            assert (summary["tagged"], summary["planned"]) == (5, 5)
            assert not any("new.png" in row["id"] for row in deployment.run("folder").rows())
            assert [name for name in os.listdir(photos / "0") if name.endswith(".tags.json")] == []


@pytest.mark.parametrize(
    "arguments", [["plan", "--resume", "nothing-here"], ["run", "--plan", "nothing-here"]]
)
def test_an_unknown_plan_is_not_found(tmp_path: Path, arguments: list[str]) -> None:
    with deployed(tmp_path) as deployment:
        assert "no run nothing-here" in deployment.finish(deployment.start(*arguments), code=3).stderr


def test_an_empty_source_makes_no_plan(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with deployed(tmp_path) as deployment:
        deployment.finish(deployment.start("plan", "photos", "--run-id", "empty"), code=3)
        assert not (tmp_path / "store" / "runs" / "empty").exists()
