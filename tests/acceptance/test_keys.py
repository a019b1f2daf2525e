"""Keys of any legal byte, from wherever they are listed to wherever they are written, and back."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.fleet import PIXEL, Fleet, Json, RunFiles, assert_all_tagged, assert_whole, running_fleet
from servers.s3 import S3UnderTest, running_s3
from servers.s3_inventory import lines_of, publish
from servers.s3_notifications import plain, record, sqs_client
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

KEYS = sorted(
    [
        *("in/a b.png", "in/a+b.png", "in/a%41.png", "in/a%2Bb.png", 'in/"q" &<>#?;=,:@.png', "in/trailing "),
        *(
            "in/line\nbreak\r\n.png",
            "in/\x01\x08\x1f\x7f\ufffe.png",
            "in/写真😀.png",
            "in/" + "é" * 510 + "x",
        ),
        *("in/../x.png", "in//x/../y.png", "in/./z.png", "in/back\\slash.png", "in/e\u0301.png", "in/é.png"),
    ],
    key=str.encode,
)


@dataclass(frozen=True)
class Library:
    fleet: Fleet
    s3: StrictS3UnderTest
    bucket: str

    @property
    def ids(self) -> list[str]:
        return [f"s3://{self.bucket}/{key}" for key in KEYS]

    def run(self, run_id: str, source: str, *arguments: str, **settings: str) -> Json:
        deployment = self.fleet.deployment
        command = ["run", source, "--run-id", run_id, "--json", *arguments]
        return deployment.finish(deployment.start(*command, said=b"", **settings)).json

    def marks(self) -> list[str]:
        """The run whose tags each object bears."""
        stored = [self.s3.store.current(self.bucket, key) for key in KEYS]
        return [one.metadata["tagmill-run"] for one in stored]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        bucket, client = s3.new_bucket(), s3.client()
        for key in KEYS:
            client.put_object(Bucket=bucket, Key=key, Body=PIXEL, ContentType="image/png")
        settings = {"TAGMILL_PROCESSES": "1", "TAGMILL_PROBE": "off", **S3UnderTest(s3.url).environment}
        aliases = {"library": f"{s3.url}/{bucket}"}
        fleet = stack.enter_context(running_fleet(tmp_path, 0, settings, latency_seconds=0, aliases=aliases))
        yield Library(fleet, s3, bucket)


@pytest.mark.long
def test_any_key_survives_every_path_and_comes_back(library: Library, tmp_path: Path) -> None:
    """A listing by signed links, then a report by a storage alias, then exports, then a manifest."""
    deployment, client = library.fleet.deployment, library.s3.client()
    linking = deployment.worker()
    library.run("listed", f"s3://{library.bucket}/in/")
    with deployment.explained():
        assert_all_tagged(deployment.run("listed"), library.ids)
        assert library.marks() == ["listed"] * len(KEYS)

    linking.terminate()
    linking.wait()
    deployment.worker(TAGMILL_FILESTACK_STORAGE_ALIAS="library")
    report = publish(client, library.s3.new_bucket(), library.bucket, lines_of(client, library.bucket))
    library.run("reported", report, "--force", TAGMILL_FILESTACK_STORAGE_ALIAS="library")
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("reported"), library.ids)
        assert {row["transfer"] for row in rows} == {"alias"}
        assert {row["writes"]["metadata"]["status"] for row in rows} <= {"written", "unchanged"}

    rows_file, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    for target in (rows_file, table):
        deployment.finish(deployment.start("export", "listed", "--output", str(target)))
    assert [json.loads(line)["id"] for line in rows_file.read_bytes().splitlines()] == library.ids
    with table.open(newline="") as text:
        assert [row["id"] for row in csv.DictReader(text)] == library.ids

    again = library.run("again", str(rows_file))
    with deployment.explained():
        rows = assert_whole(deployment.run("again"), library.ids)
        assert ({row["error"]["code"] for row in rows}, again["calls"]) == ({"already_tagged"}, 0)


def told_of(store: Path) -> list[Json]:
    return [row for run in store.glob("runs/events-*") for row in RunFiles(run).shards()]


@pytest.mark.long
def test_any_key_survives_states_later_passes_and_events(library: Library) -> None:
    """A listing by several requests at once to every place, nights, retry, retag, undo, and what S3 tells."""
    deployment, client, bucket = library.fleet.deployment, library.s3.client(), library.bucket
    deployment.worker()
    source, broken, removed = f"s3://{bucket}/in/", KEYS[2], KEYS[7]
    everywhere = ["--write-back", "metadata,tags,sidecar", "--list-workers", "4"]

    def ended(*command: str, code: int = 0) -> Json:
        return deployment.finish(deployment.start(*command, "--json"), code=code).json

    def night(run_id: str, code: int = 0) -> Json:
        images: Json = ended("run", source, "--run-id", run_id, *everywhere, code=code)["incremental"]
        return images and images["images"]

    client.put_object(Bucket=bucket, Key=broken, Body=PIXEL[:20])
    assert night("first", code=1) is None
    assert ended("retry", "first", "--yes", code=1)["calls"] == len(KEYS) + 1
    with deployment.explained():
        assert [row["id"] for row in deployment.run("first").rows()] == library.ids
        failures = (deployment.run("first").folder / "failures.jsonl").read_bytes()
        assert json.loads(failures)["source"]["key"] == broken
    assert night("quiet") == {"refused": 1, "unchanged": len(KEYS) - 1}

    client.put_object(Bucket=bucket, Key=broken, Body=PIXEL)
    client.delete_object(Bucket=bucket, Key=removed)
    assert night("changed") == {"changed": 1, "disappeared": 1, "unchanged": len(KEYS) - 2}
    assert [row["source"]["key"] for row in deployment.run("changed").rows()] == [broken]

    (deployment.folder / "policy.toml").write_text('prefix = "p-"\n')
    ended("retag", "first", "--policy", "policy.toml", "--yes", code=1)  # one is gone
    left = [key for key in KEYS if key not in {broken, removed}]
    objects = [library.s3.store.current(bucket, key) for key in left]
    assert all(one.metadata["tagmill-tags"].startswith("p-") for one in objects)
    ended("undo", "first", "--yes")
    objects = [library.s3.store.current(bucket, key) for key in left]
    assert not any("tagmill-tags" in one.metadata or one.tags for one in objects)
    assert [one for one in library.s3.store.buckets[bucket].objects if one.endswith(".tags.json")] == [
        f"{broken}.tags.json"
    ]

    with running_s3() as moto:
        sqs = sqs_client(moto.url)
        queue = sqs.create_queue(QueueName="keys")["QueueUrl"]
        for key in left:
            sqs.send_message(QueueUrl=queue, MessageBody=plain(record(bucket, key)))
        listener = deployment.start("listen", source, "--queue", queue, "--write-back", "none")
        told = deployment.until(
            lambda: len(found := told_of(deployment.store)) >= len(left) and found, "all rows"
        )
        listener.terminate()
        deployment.finish(listener)
    assert sorted(row["source"]["key"] for row in told or ()) == sorted(left)
