"""Every version of the objects of a bucket, by the program, from outside."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.fleet import Fleet, Json, assert_all_tagged, assert_whole, running_fleet
from servers.s3 import S3UnderTest
from servers.s3_inventory import Line, publish
from servers.strict_s3 import Stored, StrictS3UnderTest, running_strict_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
OLDEST, MIDDLE, NEWEST = ((PHOTOS / name).read_bytes() for name in ("china.jpg", "coffee.jpg", "clock.png"))
ODD, GONE, PLAIN = "in/a b+%41.jpg", "in/gone.jpg", "in/plain.jpg"
PLANNED = [(ODD, NEWEST), (ODD, MIDDLE), (ODD, OLDEST), (GONE, MIDDLE), (PLAIN, OLDEST)]
EARLIER = [False, True, True, True, False]
CALLS = len(PLANNED)


@dataclass(frozen=True)
class Library:
    """Three versions of an object, one from before versioning; one hidden by a delete marker; one alone."""

    fleet: Fleet
    s3: StrictS3UnderTest
    bucket: str
    client: S3Client

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/in/"

    @property
    def ids(self) -> list[str]:
        return [f"s3://{self.bucket}/{key}" for key, _ in PLANNED]

    def versions(self) -> list[Stored]:
        """In the order of a listing, delete markers too."""
        objects = self.s3.store.buckets[self.bucket].objects
        return [stored for key in sorted(objects) for stored in reversed(objects[key])]

    def finish(self, *arguments: str) -> Json:
        deployment = self.fleet.deployment
        return deployment.finish(deployment.start(*arguments, "--json")).json

    def run(self, run_id: str, source: str, *arguments: str) -> Json:
        return self.finish("run", source, "--run-id", run_id, "--all-versions", *arguments)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        bucket, client = s3.new_bucket(), s3.client()
        client.put_object(Bucket=bucket, Key=ODD, Body=OLDEST, Tagging="team=web")
        s3.store.buckets[bucket].versioning = "Enabled"
        for key, body in ((ODD, MIDDLE), (ODD, NEWEST), (GONE, MIDDLE), (PLAIN, OLDEST)):
            client.put_object(Bucket=bucket, Key=key, Body=body)
        client.delete_object(Bucket=bucket, Key=GONE)
        settings = {"TAGMILL_PROCESSES": "1", "TAGMILL_PROBE": "off", **S3UnderTest(s3.url).environment}
        fleet = stack.enter_context(running_fleet(tmp_path, 0, settings, latency_seconds=0))
        fleet.deployment.worker(TAGMILL_FILESTACK_STORAGE_ALIAS="library")
        yield Library(fleet, s3, bucket, client)


def test_each_version_is_tagged_as_what_it_is_and_metadata_is_for_the_latest(library: Library) -> None:
    before = library.versions()
    summary = library.run("first", library.source, "--write-back", "metadata,tags", "--allow-new-versions")
    with library.fleet.deployment.explained():
        rows = assert_all_tagged(library.fleet.deployment.run("first"), library.ids)
        assert [row["source"]["is_latest"] for row in rows] == [not earlier for earlier in EARLIER]
        assert len({(row["id"], row["source"]["version_id"]) for row in rows}) == CALLS
        tags = [row["tags"]["auto"] for row in rows]
        by_content = {body: said for (_, body), said in zip(PLANNED, tags, strict=True)}
        assert [by_content[body] for _, body in PLANNED] == tags
        assert len({str(said) for said in tags}) == 3
        reasons = [row["writes"]["metadata"]["reason"] for row in rows]
        assert reasons == ["not_latest" if earlier else None for earlier in EARLIER]
        assert (summary["calls"], library.fleet.calls, summary["writes"]["written"]) == (CALLS, CALLS, 7)
        assert not (library.fleet.deployment.store / "state").exists()

        after = library.versions()
        copies = [stored for stored in after if stored.metadata.get("tagmill-run") == "first"]
        assert [stored.body for stored in copies] == [NEWEST, OLDEST]
        untagged = [replace(stored, tags=old.tags) for stored, old in zip(
            [stored for stored in after if stored not in copies], before, strict=True)]  # fmt: skip
        assert untagged == before
        said = [stored for stored in after if "tagmill-tags" in stored.tags]
        assert [stored.body for stored in said] == [body for _, body in PLANNED]

    library.finish("undo", "first", "--yes")
    with library.fleet.deployment.explained():
        put_back = library.versions()
        assert [stored for stored in put_back if stored in before] == before
        assert [stored.body for stored in put_back if stored.tags.keys() - {"team"}] == []
        assert [library.s3.store.current(library.bucket, key).metadata for key in (ODD, PLAIN)] == [{}, {}]


def test_a_version_that_bears_tags_costs_nothing_from_wherever_it_is_listed(
    library: Library, tmp_path: Path
) -> None:
    library.run("listed", library.source, "--write-back", "tags", "--dedupe", "exact")
    with library.fleet.deployment.explained():
        rows = library.fleet.deployment.run("listed").rows()
        assert [row["id"] for row in rows] == library.ids
        assert [row["status"] for row in rows] == ["tagged"] * 3 + ["duplicate"] * 2
        assert {row["writes"]["tags"]["status"] for row in rows} == {"written"}
        assert library.fleet.calls == 3

    report = publish(library.client, library.s3.new_bucket(), library.bucket, lines_of(library))
    summary = library.run("reported", report, "--write-back", "tags")
    with library.fleet.deployment.explained():
        rows = assert_whole(library.fleet.deployment.run("reported"), library.ids)
        assert ({row["error"]["code"] for row in rows}, summary["calls"]) == ({"already_tagged"}, 0)
        assert [row["source"]["is_latest"] for row in rows] == [not earlier for earlier in EARLIER]

    library.finish("export", "listed", "--output", str(tmp_path / "rows.csv"))
    with (tmp_path / "rows.csv").open(newline="") as text:
        assert [row["id"] for row in csv.DictReader(text)] == library.ids


def lines_of(library: Library) -> list[Line]:
    """What a report says of the bucket, whose versions without an id have none there either."""
    found: Any = library.client.list_object_versions(Bucket=library.bucket)
    return [
        Line(
            library.bucket,
            one["Key"],
            None if one["VersionId"] == "null" else one["VersionId"],
            one["IsLatest"],
            is_delete_marker="ETag" not in one,
            size=one.get("Size"),
            e_tag=one.get("ETag", "").strip('"') or None,
        )
        for one in [*found["Versions"], *found["DeleteMarkers"]]
    ]
