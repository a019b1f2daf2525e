"""Redis, workers and producers as a fleet: one command plans, any worker works, anybody may leave."""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.fleet import (
    PIXEL,
    SUMMARY_KEYS,
    Deployment,
    Fleet,
    RunFiles,
    assert_all_tagged,
    assert_every_call_counted,
    assert_whole,
    deployed,
    paid_twice,
    running_fleet,
)
from servers.redis import running_redis
from servers.s3 import S3UnderTest


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 200) as fleet:
        yield fleet


def test_a_run_is_planned_followed_and_shown_from_elsewhere(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("followed", "--json")
    deployment.worker()
    deployment.until(lambda: deployment.run("followed").parts(), "a chunk is committed")
    fleet.sandbox.faults(latency_ms=2000)  # so that it still goes on when `status` has started

    shown = deployment.status("followed")

    fleet.hurry()
    deployment.finish(run)
    with deployment.explained():
        rows = assert_all_tagged(deployment.run("followed"), fleet.ids)
        assert list(shown) == list(run.json) == SUMMARY_KEYS
        assert (shown["state"], shown["planned"]) == ("running", len(fleet.handles))
        assert 0 < shown["remaining"] < len(fleet.handles)
        assert run.json == deployment.run("followed").summary() == deployment.status()
        assert {row["engine"] for row in rows} == {"filestack"}
        assert {(row["attempts"], row["calls"], row["transfer"]) for row in rows} == {(1, 1, "handle")}
        assert fleet.sandbox.stats()["billed"] == run.json["calls"] == len(fleet.handles)
        assert list(run.json["writes"]) == ["written", "unchanged", "stale", "skipped", "failed"]


def test_ctrl_c_leaves_a_fleet_to_its_work(fleet: Fleet) -> None:
    deployment = fleet.deployment
    run = fleet.run_all("left")
    deployment.worker()
    fleet.await_calls(20)

    run.interrupt()

    fleet.hurry()
    deployment.finish(run, code=130, within=30)
    deployment.until(lambda: deployment.run("left").finished, "the workers finish the run")
    with deployment.explained():
        assert_all_tagged(deployment.run("left"), fleet.ids)
        assert not deployment.run("left").controls()
        assert fleet.sandbox.stats()["billed"] == len(fleet.handles)


def test_a_run_of_many_shards_goes_through_a_small_window(tmp_path: Path) -> None:
    settings = {"TAGMILL_SHARD_SIZE": "30", "TAGMILL_CHUNK_SIZE": "10"}
    with running_fleet(tmp_path, 480, settings, latency_seconds=0.01) as fleet:
        deployment, waiting = fleet.deployment, [0]
        run = fleet.run_all("shards")
        deployment.worker()

        with fleet.redis.sync_client() as client:

            def ended() -> bool:
                waiting.append(int(client.llen("tagmill:backfill")))
                return not run.running

            deployment.until(ended, "the run ends")

        deployment.finish(run)
        with deployment.explained():
            rows = assert_all_tagged(deployment.run("shards"), fleet.ids)
            assert [(row["shard"], row["index"]) for row in rows] == [divmod(n, 30) for n in range(480)]
            assert len(deployment.run("shards").parts()) == 48
            assert max(waiting) <= 16
            assert fleet.sandbox.stats()["billed"] == 480
            index = json.loads((deployment.run("shards").first_pass / "manifest.json").read_text())
            assert (index["rows"], len(index["shards"])) == (480, 16)


def test_two_workers_keep_to_one_rate(tmp_path: Path) -> None:
    rate = 50
    with running_fleet(tmp_path, 200, {"TAGMILL_RATE": f"{rate}/s"}, load=True) as fleet:
        deployment = fleet.deployment
        deployment.worker()
        deployment.worker()
        run = fleet.run_all("paced")

        deployment.finish(run)

        times = sorted(fleet.sandbox.arrivals())
        with deployment.explained():
            assert len(times) == 200
            # Three seconds at a time: how exact one is, the limiter's own tests say, on an idle machine.
            fullest = max(bisect_right(times, start + 3.0) - place for place, start in enumerate(times))
            assert fullest <= 3 * 1.2 * rate + 1


def test_limit_and_sample_choose_what_is_planned(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for number in range(40):
        (library / f"{number:02d}.png").write_bytes(PIXEL)
    account = {"TAGMILL_FILESTACK_API_KEY": "Akey", "TAGMILL_FILESTACK_APP_SECRET": "secret"}
    with running_redis(0) as redis, deployed(tmp_path, TAGMILL_REDIS_URL=redis.url, **account) as deployment:
        choices = {"limited": ["--limit", "7"], "drawn": ["--sample", "9", "--seed", "4"]}
        choices["again"] = choices["drawn"]
        command = ["run", "library", "--shared-path", "--detach"]
        programs = [deployment.start(*command, "--run-id", run_id, *how) for run_id, how in choices.items()]
        for program in programs:
            deployment.finish(program)

        limited, drawn, again = (planned_paths(deployment.run(run_id)) for run_id in choices)
        assert limited == [f"{number:02d}.png" for number in range(7)]
        assert len(drawn) == 9
        assert drawn == again == sorted(drawn)


def planned_paths(run: RunFiles) -> list[str]:
    lines = [json.loads(line) for data in run.plan().values() for line in gzip.decompress(data).splitlines()]
    return [line["source"]["path"] for line in lines if "source" in line]


# --- several lists at once --------------------------------------------------------------------------------


def test_lists_of_handles_in_every_format_keep_their_bad_lines_as_failed_rows(fleet: Fleet) -> None:
    """Four producers at a time; one of two workers is theirs by chance."""
    deployment, folder = fleet.deployment, fleet.deployment.folder
    good, bad = fleet.handles[:30], "no handle!"
    mixed = [*good[:12], bad, *good[12:]]
    (folder / "list.txt").write_text("# a comment\n" + "\n".join(mixed))
    (folder / "list.csv").write_text("title,image\n" + "\n".join(f'"a, b",{handle}' for handle in mixed))
    (folder / "list.jsonl").write_text("\n".join(json.dumps({"image": handle}) for handle in mixed))
    deployment.worker()
    runs = {
        ("txt", 14): deployment.start("run", "list.txt", "--run-id", "txt"),
        ("csv", 14): deployment.start("run", "list.csv", "--field", "image", "--run-id", "csv"),
        ("jsonl", 13): deployment.start("run", "list.jsonl", "--field", "image", "--run-id", "jsonl"),
        ("stdin", 13): deployment.start("run", "-", "--run-id", "stdin", said="\n".join(mixed).encode()),
    }

    for (run_id, line), run in runs.items():
        deployment.finish(run, code=1)
        with deployment.explained():
            assert_list(deployment.run(run_id), good, line)
    assert fleet.sandbox.stats()["billed"] == 4 * len(good)


def assert_list(run: RunFiles, good: list[str], bad_line: int) -> None:
    rows = run.rows()
    [failed] = [row for row in rows if row["status"] != "tagged"]
    assert rows[12] == failed
    assert (failed["status"], failed["error"]["code"], failed["source"]["line"]) == (
        "failed",
        "bad_line",
        bad_line,
    )
    assert failed["calls"] == 0
    assert_whole(
        run,
        [f"filestack:{handle}" for handle in good[:12]]
        + [failed["id"]]
        + [f"filestack:{handle}" for handle in good[12:]],
    )


# --- the run store in a bucket ----------------------------------------------------------------------------


def test_a_run_store_in_a_bucket_survives_a_killed_worker(tmp_path: Path, s3_server: S3UnderTest) -> None:
    bucket = s3_server.bucket()
    settings = {
        "TAGMILL_RUN_STORE": f"s3://{bucket}/tagmill",
        "TAGMILL_SHARD_SIZE": "50",
        **s3_server.environment,
    }
    with running_fleet(tmp_path, 160, settings) as fleet:
        deployment = fleet.deployment
        run = fleet.run_all("bucket", "--json")
        doomed, _ = deployment.worker(), deployment.worker()
        fleet.await_calls(40)

        doomed.kill()
        fleet.hurry()

        deployment.finish(run)
        files = downloaded(deployment, s3_server, bucket, "tagmill/runs/bucket/")
        with deployment.explained():
            assert_all_tagged(files, fleet.ids)
            assert paid_twice(fleet.sandbox) <= 8
            assert_every_call_counted(files, fleet.sandbox.stats()["calls"])
            assert run.json == files.summary()
            assert run.json["manifest"] == f"s3://{bucket}/tagmill/runs/bucket/manifest.jsonl"


def downloaded(deployment: Deployment, s3: S3UnderTest, bucket: str, prefix: str) -> RunFiles:
    client, folder = s3.client(), deployment.folder / "downloaded"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page["Contents"]:
            file = folder / item["Key"].removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
    return RunFiles(folder)
