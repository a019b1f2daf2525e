"""Night after night over one source: only what is new, changed or without tags is asked for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.fleet import PIXEL, Deployment, Fleet, Json, running_fleet
from servers.s3 import S3UnderTest
from servers.s3_inventory import lines_of, publish
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

KEYS = [f"in/ü {number:02d}+%.png" for number in range(12)]
IN_PARTS = KEYS[4]  #: its ETag is no MD5, so that our copy changes it


class Nights:
    """One source, and a fleet that tags it again and again."""

    def __init__(self, fleet: Fleet, source: str) -> None:
        self.fleet, self.source = fleet, source

    @property
    def deployment(self) -> Deployment:
        return self.fleet.deployment

    def run(self, run_id: str, *arguments: str, code: int = 0) -> Json:
        """Return the summary, and check that calls are those that the service saw."""
        before = self.fleet.calls
        command = ["run", self.source, "--run-id", run_id, "--json", *arguments]
        summary = self.deployment.finish(self.deployment.start(*command), code=code).json
        with self.deployment.explained():
            assert summary["calls"] == self.fleet.calls - before
        return summary

    def names(self, run_id: str) -> list[str]:
        return [row["id"].rpartition("/")[2] for row in self.deployment.run(run_id).rows()]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 8, {"TAGMILL_PROCESSES": "1"}, latency_seconds=0) as fleet:
        yield fleet


@pytest.fixture
def s3() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


def test_a_bucket_night_after_night(tmp_path: Path, s3: StrictS3UnderTest) -> None:
    with ExitStack() as stack:
        settings = {"TAGMILL_PROCESSES": "1", "TAGMILL_PROBE": "off", **S3UnderTest(s3.url).environment}
        fleet = stack.enter_context(running_fleet(tmp_path, 0, settings, latency_seconds=0))
        bucket, client = s3.new_bucket(), s3.client()
        for key in KEYS:
            client.put_object(Bucket=bucket, Key=key, Body=PIXEL, ContentType="image/png")
        s3.store.edit(bucket, IN_PARTS, etag="0123456789abcdef0123456789abcdef-2")
        nights = Nights(fleet, f"s3://{bucket}/in/")
        deployment = nights.deployment
        deployment.worker()

        first = nights.run("first")
        assert (first["calls"], first["incremental"]) == (len(KEYS), None)
        assert s3.store.current(bucket, IN_PARTS).etag != "0123456789abcdef0123456789abcdef-2"

        s3.store.requests.clear()
        quiet = nights.run("quiet")
        with deployment.explained():
            assert (quiet["state"], quiet["planned"], quiet["calls"]) == ("completed", 0, 0)
            assert quiet["incremental"] == {"mode": "changed", "images": {"unchanged": len(KEYS)}}
            assert s3.store.requests.count("HeadObject") == 0

        client.put_object(Bucket=bucket, Key=KEYS[3], Body=PIXEL + b"changed", ContentType="image/png")
        client.put_object(Bucket=bucket, Key="in/new.png", Body=PIXEL, ContentType="image/png")
        client.delete_object(Bucket=bucket, Key=KEYS[5])
        changed = nights.run("changed")
        with deployment.explained():
            assert nights.names("changed") == ["new.png", KEYS[3].removeprefix("in/")]
            assert [row["flags"] for row in deployment.run("changed").rows()] == [[], ["fresh"]]
            assert changed["incremental"]["images"] == {
                "new": 1,
                "changed": 1,
                "unchanged": len(KEYS) - 2,
                "disappeared": 1,
            }
            gone = gzip.decompress((deployment.run("changed").folder / "disappeared.jsonl.gz").read_bytes())
            assert [json.loads(line)["id"] for line in gone.splitlines()] == [f"s3://{bucket}/{KEYS[5]}"]

        (deployment.folder / "policy.toml").write_text('prefix = "p-"\n')
        s3.store.requests.clear()
        policy = nights.run("policy", "--policy", "policy.toml")
        with deployment.explained():
            assert (policy["tagged"], policy["calls"], policy["writes"]["written"]) == (
                len(KEYS),
                0,
                len(KEYS),
            )
            assert policy["incremental"]["images"] == {"reapplied": len(KEYS)}
            assert Counter(s3.store.requests)["CopyObject"] == len(KEYS)
            head = client.head_object(Bucket=bucket, Key="in/new.png")
            assert head["Metadata"]["tagmill-tags"].startswith("p-")
            assert head["Metadata"]["tagmill-run"] == "policy"

        deployment.finish(deployment.start("undo", "policy", "--yes"))
        with deployment.explained():
            assert client.head_object(Bucket=bucket, Key="in/new.png")["Metadata"]["tagmill-run"] == "changed"
        again = nights.run("again")
        with deployment.explained():
            assert again["incremental"]["images"] == {"reapplied": len(KEYS)}
            assert (again["calls"], again["writes"]["unchanged"]) == (0, len(KEYS))


def test_a_folder_night_after_night(fleet: Fleet) -> None:
    folder = fleet.deployment.folder / "ph otos%41"
    (folder / "a").mkdir(parents=True)
    for name in ("a/1.png", "a.b.png", "ü.png", "z.png"):
        (folder / name).write_bytes(PIXEL)
    nights = Nights(fleet, str(folder))
    nights.deployment.worker()
    assert nights.run("first", "--shared-path")["calls"] == len(list(folder.rglob("*.png")))

    (folder / "a/1.png").write_bytes(PIXEL + b"changed")
    (folder / "a/2.png").write_bytes(PIXEL)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "z.png").unlink()
    second = nights.run("second", "--shared-path", code=1)
    with nights.deployment.explained():
        assert nights.names("second") == ["1.png", "2.png", "broken.png"]
        assert second["incremental"]["images"] == {"new": 2, "changed": 1, "unchanged": 2, "disappeared": 1}

    third = nights.run("third", "--shared-path")
    with nights.deployment.explained():
        assert third["calls"] == 0
        assert third["incremental"]["images"] == {"refused": 1, "unchanged": 4}

    shown = nights.deployment.finish(
        nights.deployment.start("plan", str(folder), "--shared-path", "--mode", "all", "--json")
    ).json
    assert (shown["mode"], shown["images"], shown["found"]) == ("all", 5, {"again": 5})


def test_a_list_of_handles_night_after_night_in_its_own_order(fleet: Fleet) -> None:
    listed = fleet.deployment.folder / "list.txt"
    handles = fleet.handles
    listed.write_text("\n".join(reversed(handles[:5])))
    nights = Nights(fleet, str(listed))
    nights.deployment.worker()
    assert nights.run("first")["calls"] == 5

    listed.write_text("\n".join([handles[7], handles[2], handles[6], "no handle", handles[7]]))
    second = nights.run("second", code=1)
    with nights.deployment.explained():
        planned = [row["id"].removeprefix("filestack:") for row in nights.deployment.run("second").rows()]
        assert planned == [handles[7], handles[6], "list.txt:4", handles[7]]
        assert second["incremental"]["images"] == {"new": 4, "unchanged": 1, "disappeared": 4}


@pytest.mark.long
@pytest.mark.long
def test_each_night_takes_the_newest_report_of_an_inventory(fleet: Fleet, s3_server: S3UnderTest) -> None:
    client, photos, reports = s3_server.client(), s3_server.bucket(), s3_server.bucket()
    fleet.deployment.environment |= s3_server.environment | {"TAGMILL_WRITE_BACK": "none"}
    nights = Nights(fleet, f"inventory+s3://{reports}/reports/{photos}/all/")
    fleet.deployment.worker()
    for day, added in ((24, ["a.png", "b.png"]), (25, ["c.png"])):
        for key in added:
            client.put_object(Bucket=photos, Key=key, Body=PIXEL)
        uri = publish(client, reports, photos, lines_of(client, photos), edition=f"2026-11-{day}T01-00Z")
        summary = nights.run(f"night-{day}")
        assert (summary["calls"], nights.names(f"night-{day}")) == (len(added), added)
        run = json.loads((fleet.deployment.run(f"night-{day}").folder / "run.json").read_text())
        assert run["source"]["uri"] == uri
