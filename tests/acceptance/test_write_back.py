"""Tags in a bucket, run after run, against a server that is as strict as the S3 API reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.fleet import (
    PIXEL,
    Deployment,
    Fleet,
    Json,
    Program,
    assert_all_tagged,
    assert_whole,
    running_fleet,
)
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault
from servers.strict_s3_store import Stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
KEYS = [f"in/ü {number:02d}+%.png" for number in range(30)]


class Library:
    """A bucket of images, and a fleet that can reach it."""

    def __init__(self, fleet: Fleet, s3: StrictS3UnderTest) -> None:
        self.fleet, self.s3 = fleet, s3
        self.bucket = s3.new_bucket()
        self.client: S3Client = s3.client()
        for key in KEYS:
            self.put(key)

    @property
    def deployment(self) -> Deployment:
        return self.fleet.deployment

    @property
    def ids(self) -> list[str]:
        return [f"s3://{self.bucket}/{key}" for key in KEYS]

    def put(self, key: str, content: bytes = PIXEL) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType="image/png")

    def objects(self) -> dict[str, Stored]:
        """Everything of every object, but for what S3 cannot bring back."""
        stored = self.s3.store.buckets[self.bucket].objects
        return {key: replace(versions[-1], last_modified=NEVER) for key, versions in stored.items()}

    def start(self, run_id: str, *arguments: str) -> Program:
        where = f"s3://{self.bucket}/in/"
        return self.deployment.start("run", where, "--run-id", run_id, "--json", *arguments)

    def run(self, run_id: str, *arguments: str) -> tuple[Json, Counter[str]]:
        """Return the summary of a run that ends with 0, and how often each S3 operation was asked for."""
        self.s3.store.requests.clear()
        summary = self.deployment.finish(self.start(run_id, *arguments)).json
        return summary, Counter(self.s3.store.requests)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        settings = {"TAGMILL_PROCESSES": "1", "TAGMILL_CHUNK_SIZE": "10", "TAGMILL_PROBE": "off"}
        settings |= S3UnderTest(s3.url).environment
        fleet = stack.enter_context(running_fleet(tmp_path, 0, settings, latency_seconds=0))
        yield Library(fleet, s3)


def test_a_second_run_pays_for_nothing_and_writes_nothing(library: Library) -> None:
    library.deployment.worker()
    first, _ = library.run("first")
    assert (first["tagged"], first["calls"], library.fleet.calls) == (len(KEYS), len(KEYS), len(KEYS))

    second, requests = library.run("second", "--mode", "all")
    with library.deployment.explained():
        rows = assert_whole(library.deployment.run("second"), library.ids)
        assert {row["status"] for row in rows} == {"skipped"}
        assert {row["error"]["code"] for row in rows} == {"already_tagged"}
        assert "--force" in rows[0]["error"]["message"]
        assert (second["skipped"], second["calls"], library.fleet.calls) == (len(KEYS), 0, len(KEYS))
        assert (requests["CopyObject"], requests["PutObject"], requests["HeadObject"]) == (0, 0, len(KEYS))

    forced, requests = library.run("forced", "--force")
    with library.deployment.explained():
        assert_all_tagged(library.deployment.run("forced"), library.ids)
        assert (forced["calls"], library.fleet.calls) == (len(KEYS), 2 * len(KEYS))
        assert (forced["writes"]["unchanged"], requests["CopyObject"]) == (len(KEYS), 0)

    library.put(KEYS[3], PIXEL + b"changed")
    library.put("in/new.png")
    changed, requests = library.run("changed")
    with library.deployment.explained():
        assert (changed["planned"], changed["tagged"], changed["calls"]) == (2, 2, 2)
        assert changed["incremental"]["images"] == {"new": 1, "changed": 1, "unchanged": len(KEYS) - 1}
        assert requests["CopyObject"] == 2


@pytest.mark.parametrize("applied", [False, True])
def test_a_worker_killed_while_it_writes_has_its_answer_journaled(library: Library, *, applied: bool) -> None:
    """One lane: when the copy leaves, no call is in flight, so that not one may be paid twice."""
    deployment = library.deployment
    doomed = deployment.worker(TAGMILL_CONCURRENCY="1")

    def kill() -> Fault:
        doomed.kill()
        return Fault(hangs_up=True, applied=applied)

    for _ in range(7):
        library.s3.faults.before("CopyObject", lambda: None)
    library.s3.faults.before("CopyObject", kill)
    run = library.start("killed")
    deployment.until(lambda: not doomed.running, "the worker is killed in the middle of a copy")

    deployment.worker()

    deployment.finish(run)
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("killed"), library.ids)
        assert [row["writes"]["metadata"]["status"] for row in rows] == ["written"] * len(KEYS)
        assert (
            run.json["calls"] == library.fleet.calls == library.fleet.sandbox.stats()["billed"] == len(KEYS)
        )
        assert library.s3.store.requests.count("CopyObject") == len(KEYS) + (not applied)
        undo = deployment.run("killed").undo()
        assert {line["previous"]["metadata"]["run"] for line in undo} == {None}
        assert len(undo) == len(KEYS)


@pytest.mark.long
def test_a_bucket_that_is_busy_for_a_while_costs_no_second_call(library: Library) -> None:
    for _ in range(2):
        library.s3.faults.once("CopyObject", Fault(503, "SlowDown"))
        library.s3.faults.once("HeadObject", Fault(500, "InternalError"))
    library.deployment.worker()
    summary, _ = library.run("busy")
    with library.deployment.explained():
        assert (summary["writes"]["written"], summary["calls"], library.fleet.calls) == (len(KEYS),) * 3


def test_undo_is_right_even_after_redis_lost_what_stood_there(library: Library) -> None:
    """The second run's worker dies in the middle of a copy, and Redis forgets every former value."""
    deployment = library.deployment
    (deployment.folder / "policy.toml").write_text('prefix = "p-"\n')
    pristine = library.objects()
    deployment.worker()
    library.run("first")
    after_first = library.objects()
    doomed = deployment.programs[0]

    def lose_everything() -> Fault:
        doomed.kill()
        with library.fleet.redis.sync_client() as redis:
            redis.flushall()
        return Fault(hangs_up=True, applied=True)

    for _ in range(7):
        library.s3.faults.before("CopyObject", lambda: None)
    library.s3.faults.before("CopyObject", lose_everything)
    second = library.start("second", "--force", "--policy", "policy.toml")
    deployment.until(lambda: not doomed.running, "the worker is killed in the middle of a copy")
    deployment.worker()
    deployment.finish(second)
    assert library.objects() != after_first
    assert len(deployment.run("second").undo()) < len(KEYS)

    undone = deployment.finish(deployment.start("undo", "second", "--yes", "--json")).json
    with deployment.explained():
        assert undone["writes"]["written"] == len(KEYS)
        assert library.objects() == after_first

    deployment.finish(deployment.start("undo", "first", "--yes"))
    with deployment.explained():
        assert library.objects() == pristine
        assert 0 <= library.fleet.calls - 2 * len(KEYS) <= 10  # the open chunk was paid for again


@pytest.mark.long
def test_several_places_are_written_asked_and_undone_together(library: Library) -> None:
    deployment, places = library.deployment, ("metadata", "tags", "sidecar")
    pristine = library.objects()
    deployment.worker()

    first, _ = library.run("first", "--write-back", "sidecar,tags,metadata")
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("first"), library.ids)
        assert {(*row["writes"],) for row in rows} == {places}
        assert first["writes"]["written"] == len(places) * len(KEYS)

    library.client.delete_object(Bucket=library.bucket, Key=f"{KEYS[0]}.tags.json")
    second, _ = library.run("second", "--mode", "all", "--write-back", ",".join(places))
    with deployment.explained():
        assert (second["skipped"], second["tagged"], library.fleet.calls) == (len(KEYS) - 1, 1, len(KEYS) + 1)
        assert (second["writes"]["unchanged"], second["writes"]["written"]) == (2, 1)

    for run_id in ("second", "first"):
        deployment.finish(deployment.start("undo", run_id, "--yes"))
    with deployment.explained():
        assert library.objects() == pristine
