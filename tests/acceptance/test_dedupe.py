"""Images of equal content are paid for once, and every one of them is tagged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.fleet import PIXEL, Deployment, Fleet, Json, Program, deployed, running_fleet
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONTENTS, COPIES = 8, 4


def picture(number: int) -> bytes:
    """PNG readers stop at the end of the image."""
    return PIXEL + number.to_bytes(2)


def name(number: int) -> str:
    """Copies are scattered: their leaders come first."""
    return f"in/{number // CONTENTS}/{number % CONTENTS}.png"


class Library:
    """A bucket that holds each picture several times, and a fleet that can reach it."""

    def __init__(self, fleet: Fleet, s3: StrictS3UnderTest) -> None:
        self.fleet, self.s3 = fleet, s3
        self.bucket = s3.new_bucket()
        self.client: S3Client = s3.client()
        for number in range(CONTENTS * COPIES):
            content = picture(number % CONTENTS)
            self.client.put_object(
                Bucket=self.bucket, Key=name(number), Body=content, ContentType="image/png"
            )

    @property
    def deployment(self) -> Deployment:
        return self.fleet.deployment

    def fail(self, *numbers: int, fault: str = "404") -> None:
        """Let the service fail for these objects, whenever it is asked for them."""
        images = [f"{self.s3.url}/{self.bucket}/{name(number)}" for number in numbers]
        self.fleet.sandbox.faults({"fault": fault, "images": images})

    def start(self, run_id: str, *arguments: str) -> Program:
        where = f"s3://{self.bucket}/in/"
        return self.deployment.start(
            "run", where, "--run-id", run_id, "--dedupe", "exact", "--json", *arguments
        )

    def rows(self, run_id: str) -> list[Json]:
        rows = self.deployment.run(run_id).rows()
        assert [row["id"] for row in rows] == [
            f"s3://{self.bucket}/{name(n)}" for n in range(CONTENTS * COPIES)
        ]
        return rows

    def tags(self, number: int) -> tuple[str | None, str | None]:
        head = self.client.head_object(Bucket=self.bucket, Key=name(number))
        return head["Metadata"].get("tagmill-tags"), head["Metadata"].get("tagmill-run")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        settings = {**S3UnderTest(s3.url).environment, "TAGMILL_CHUNK_SIZE": "5"}
        fleet = stack.enter_context(running_fleet(tmp_path, 0, settings, latency_seconds=0))
        yield Library(fleet, s3)


def test_copies_in_a_bucket_are_paid_for_once_and_written_each(library: Library) -> None:
    library.deployment.worker()
    summary = library.deployment.finish(library.start("once")).json

    with library.deployment.explained():
        rows = library.rows("once")
        duplicates = CONTENTS * (COPIES - 1)
        assert (summary["tagged"], summary["duplicate"], summary["remaining"]) == (CONTENTS, duplicates, 0)
        assert library.fleet.calls == library.fleet.sandbox.stats()["billed"] == summary["calls"] == CONTENTS
        assert summary["writes"]["written"] == len(rows)
        for number, row in enumerate(rows):
            leader = rows[number % CONTENTS]
            assert row["duplicate_of"] == (leader["id"] if number >= CONTENTS else None)
            assert row["tags"] == leader["tags"] is not None
            assert library.tags(number) == library.tags(number % CONTENTS)
            assert library.tags(number)[1] == "once"
        assert library.deployment.status("once") == summary

    again = library.deployment.finish(library.start("again", "--mode", "all")).json
    with library.deployment.explained():
        assert (again["skipped"], again["calls"], again["pass"]) == (len(rows), 0, 0)

    undone = library.deployment.finish(library.deployment.start("undo", "once", "--yes", "--json")).json
    with library.deployment.explained():
        assert undone["writes"]["written"] == len(rows)
        assert {library.tags(number) for number in range(len(rows))} == {(None, None)}
        assert Counter(row["duplicate_of"] is None for row in library.rows("once")) == {
            True: CONTENTS,
            False: duplicates,
        }


@pytest.mark.long
def test_where_the_first_copy_fails_another_is_asked(library: Library) -> None:
    library.fail(0, 1, CONTENTS + 1)
    library.deployment.worker()
    summary = library.deployment.finish(library.start("failing"), code=1).json

    with library.deployment.explained():
        rows = library.rows("failing")
        assert [number for number, row in enumerate(rows) if row["status"] == "failed"] == [
            0,
            1,
            CONTENTS + 1,
        ]
        assert (summary["pass"], library.fleet.calls) == (3, CONTENTS + 3)
        assert rows[CONTENTS]["status"] == "tagged"
        assert {rows[CONTENTS * copy]["duplicate_of"] for copy in (2, 3)} == {rows[CONTENTS]["id"]}
        assert rows[3 * CONTENTS + 1]["duplicate_of"] == rows[2 * CONTENTS + 1]["id"]
        assert sum(row["calls"] for row in rows) == summary["calls"] == library.fleet.calls

    library.fleet.sandbox.faults()
    retried = library.deployment.finish(library.deployment.start("retry", "failing", "--yes", "--json")).json
    with library.deployment.explained():
        assert (retried["failed"], retried["calls"]) == (0, library.fleet.calls)
        library.rows("failing")


@pytest.mark.long
def test_everybody_killed_while_answers_are_handed_on_nothing_is_lost_or_paid_twice(library: Library) -> None:
    """Every leader fails, so that the pass of the followers pays and writes."""
    deployment = library.deployment
    library.fail(*range(CONTENTS))
    worker, run = deployment.worker(), library.start("killed")
    copies = 0

    def kill() -> None:
        nonlocal copies
        copies += 1
        if copies == CONTENTS + 3:
            for process in [worker, run]:
                process.kill()

    for _ in range(CONTENTS + 3):
        library.s3.faults.before("CopyObject", kill)
    deployment.until(lambda: not run.running and not worker.running, "everybody is killed")
    assert not deployment.run("killed").finished
    deployment.worker()
    resumed = deployment.finish(deployment.start("run", "--resume", "killed", "--json"), code=1).json

    with deployment.explained():
        rows = library.rows("killed")
        assert (resumed["failed"], resumed["tagged"]) == (CONTENTS, CONTENTS)
        assert resumed["duplicate"] == CONTENTS * (COPIES - 2)
        assert library.fleet.calls == resumed["calls"] == 2 * CONTENTS
        assert {row["writes"]["metadata"]["status"] for row in rows[CONTENTS:]} == {"written"}
        assert all(library.tags(number)[1] == "killed" for number in range(CONTENTS, len(rows)))


def test_the_fleet_hands_answers_on_when_the_producer_has_left(library: Library) -> None:
    left = library.deployment.finish(library.start("left", "--detach")).json
    assert (left["state"], left["planned"]) == ("running", CONTENTS * COPIES)
    library.deployment.worker()
    library.deployment.until(lambda: library.deployment.run("left").finished, "the run is finished")
    with library.deployment.explained():
        assert Counter(row["status"] for row in library.rows("left")) == {
            "tagged": CONTENTS,
            "duplicate": CONTENTS * (COPIES - 1),
        }
        assert library.fleet.calls == CONTENTS


def test_a_folder_s_copies_have_sidecars_of_their_own(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(picture(number % 2))
    (photos / "same-size.png").write_bytes(picture(7))
    with deployed(tmp_path) as deployment:
        run = deployment.start("run", "photos", "--run-id", "folder", "--dedupe", "exact", "--json")
        summary = deployment.finish(run).json
        with deployment.explained():
            assert (summary["tagged"], summary["duplicate"], summary["calls"]) == (3, 4, 3)
            sidecars = {path.name: json.loads(path.read_text()) for path in photos.glob("*.tags.json")}
            assert len(sidecars) == 7
            assert sidecars["0.png.tags.json"]["tags"] == sidecars["4.png.tags.json"]["tags"]


def test_a_list_of_handles_cannot_be_compared(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment:
        run = deployment.start(
            "run", "-", "--dedupe", "exact", "--engine", "sandbox", said=b"handle1234567890abcd"
        )
        assert "--dedupe" in deployment.finish(run, code=2).stderr
