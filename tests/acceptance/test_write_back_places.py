"""Tags at every place but metadata: on and beside S3 objects, behind handles, in the run store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.fleet import PIXEL, Fleet, Json, assert_all_tagged, assert_whole, running_fleet
from servers.s3 import S3UnderTest
from servers.strict_s3 import Stored, StrictS3UnderTest, running_strict_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IMAGES = 12
OWN = {"tagmill-tags", "tagmill-run"}


class Uploads:
    """Handles at the service, whose files lie in a bucket of one's own."""

    def __init__(self, fleet: Fleet, s3: StrictS3UnderTest, bucket: str) -> None:
        self.fleet, self.s3, self.bucket = fleet, s3, bucket
        self.client: S3Client = s3.client()
        self.keys = {handle: fleet.sandbox.metadata(handle)["key"] for handle in fleet.handles}
        for handle in fleet.handles:
            self.put(handle, PIXEL)
        fleet.deployment.worker(TAGMILL_CONCURRENCY="1")  # one image after the other

    def put(self, handle: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.keys[handle], Body=body, Tagging="team=web")

    def stored(self) -> list[Stored]:
        """In the handles' order."""
        return [self.s3.store.current(self.bucket, self.keys[handle]) for handle in self.fleet.handles]

    def names(self) -> list[str]:
        return sorted(self.s3.store.buckets[self.bucket].objects)

    def run(self, run_id: str, *arguments: str, **settings: str) -> Json:
        program = self.fleet.run_all(run_id, "--json", *arguments, **settings)
        return self.fleet.deployment.finish(program).json

    def undo(self, run_id: str) -> Json:
        deployment = self.fleet.deployment
        return deployment.finish(deployment.start("undo", run_id, "--yes", "--json")).json


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        bucket = s3.new_bucket()
        settings = {**S3UnderTest(s3.url).environment, "TAGMILL_PROCESSES": "1"}
        fleet = stack.enter_context(
            running_fleet(tmp_path, IMAGES, settings, latency_seconds=0, container=bucket)
        )
        yield Uploads(fleet, s3, bucket)


def test_the_objects_behind_handles_are_written_and_undone(uploads: Uploads) -> None:
    before, names = uploads.stored(), uploads.names()
    behind = {"TAGMILL_FILESTACK_BUCKETS": f"{uploads.s3.new_bucket()},{uploads.bucket}"}

    first = uploads.run("first", "--write-back", "tags,sidecar", "--sidecar-prefix", "tags", **behind)
    with uploads.fleet.deployment.explained():
        rows = assert_all_tagged(uploads.fleet.deployment.run("first"), uploads.fleet.ids)
        assert first["writes"]["written"] == 2 * IMAGES
        for row, was, stored in zip(rows, before, uploads.stored(), strict=True):
            assert row["source"]["behind"]["etag"] == was.etag
            assert stored.tags["tagmill-tags"]
            assert {key: stored.tags[key] for key in stored.tags.keys() - OWN} == was.tags
        assert uploads.names() == sorted([*names, *(f"tags/{name}.tags.json" for name in names)])
        assert uploads.fleet.calls == IMAGES

    second = uploads.run("second", "--write-back", "tags,sidecar", "--sidecar-prefix", "tags", **behind)
    with uploads.fleet.deployment.explained():
        assert (second["skipped"], second["calls"], uploads.fleet.calls) == (IMAGES, 0, IMAGES)

    uploads.put(uploads.fleet.handles[4], b"overwritten")
    undone = uploads.undo("first")
    with uploads.fleet.deployment.explained():
        assert undone["writes"]["failed"] == 0
        after = uploads.stored()
        assert uploads.names() == names
        assert [*before[:4], *before[5:]] == [*after[:4], *after[5:]]
        assert after[4].tags == {"team": "web"}


def test_a_bucket_that_is_not_named_is_not_touched(uploads: Uploads) -> None:
    before = uploads.stored()
    uploads.s3.store.requests.clear()
    summary = uploads.run("beside", "--write-back", "sidecar")
    run = uploads.fleet.deployment.run("beside")
    with uploads.fleet.deployment.explained():
        rows = assert_all_tagged(run, uploads.fleet.ids)
        assert summary["writes"]["written"] == IMAGES
        assert all("behind" not in row["source"] for row in rows)
        assert uploads.s3.store.requests == []
        assert uploads.stored() == before
        said = [run.folder / "sidecars" / f"{handle}.tags.json" for handle in uploads.fleet.handles]
        assert [json.loads(path.read_text())["tags"] for path in said] == [row["tags"] for row in rows]

    uploads.undo("beside")
    with uploads.fleet.deployment.explained():
        assert list((run.folder / "sidecars").iterdir()) == []


def test_a_file_that_is_overwritten_while_it_is_tagged_keeps_its_own_tags(uploads: Uploads) -> None:
    """The object is looked at before the service is asked, so the answer is known to be about the old one."""

    def overwrite() -> None:
        uploads.put(uploads.fleet.handles[0], b"overwritten")

    for hook in (lambda: None, overwrite):  # the look before the call, the look before the write
        uploads.s3.faults.before("HeadObject", hook)
    settings = {"TAGMILL_FILESTACK_BUCKETS": uploads.bucket}
    summary = uploads.run("stale", "--write-back", "tags", "--force", **settings)
    with uploads.fleet.deployment.explained():
        rows = assert_whole(uploads.fleet.deployment.run("stale"), uploads.fleet.ids)
        assert summary["writes"]["stale"] == 1
        assert [row["writes"]["tags"]["reason"] for row in rows if row["writes"]["tags"]["reason"]] == [
            "content_changed"
        ]
        assert uploads.stored()[0].tags == {"team": "web"}


def test_annotations_are_written_where_the_probe_has_seen_them_work(uploads: Uploads) -> None:
    before, settings = uploads.stored(), {"TAGMILL_FILESTACK_BUCKETS": uploads.bucket}
    summary = uploads.run("annotated", "--write-back", "annotation", **settings)
    with uploads.fleet.deployment.explained():
        rows = assert_all_tagged(uploads.fleet.deployment.run("annotated"), uploads.fleet.ids)
        assert summary["writes"]["written"] == IMAGES
        said = [json.loads(stored.annotations["tagmill"].payload) for stored in uploads.stored()]
        assert [one["tags"] for one in said] == [row["tags"] for row in rows]
        assert [replace(stored, annotations={}) for stored in uploads.stored()] == before
    uploads.undo("annotated")
    assert uploads.stored() == before


@pytest.mark.parametrize("probe", ["auto", "off"])
def test_unproven_annotations_are_refused_and_no_image_is_touched(uploads: Uploads, probe: str) -> None:
    before, settings = uploads.stored(), {"TAGMILL_FILESTACK_BUCKETS": uploads.bucket}
    uploads.s3.store.buckets[uploads.bucket].knows_annotations = False
    said = uploads.fleet.run_all("unproven", "--write-back", "annotation", "--probe", probe, **settings)
    uploads.fleet.deployment.finish(said, code=2)
    assert "overwrites the image: use --write-back metadata, tags or sidecar" in said.stderr
    assert uploads.stored() == before
    assert uploads.names() == sorted(uploads.keys.values())
