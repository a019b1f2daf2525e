from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, a_spec, planned

from tagmill.producer.forecast import LOOKS, WRITES, Quota, Requests, forecast
from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.spec import Input, Kind, SourceSpec
from tagmill.worker.models import BadLine, Handle, ImageRef, Json, LocalFile, S3Object, Source
from tagmill.worker.store.plan import Plan, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Runs

PRICES = {"put_per_1000": "0.005", "get_per_1000": "0.0004", "as_of": "2026-11-01"}
BUCKET = SourceSpec(Kind.S3, "s3://b/in/")
#: As published: who reads `--json` relies on every one of them.
KEYS = [
    *("schema", "run_id", "source", "engine", "write_back", "dedupe", "mode", "found"),
    *("listed", "images", "bytes", "earlier_versions", "skipped"),
    *(
        "types",
        "folders",
        "sizes",
        "duplicates",
        "tasks",
        "least_calls",
        "calls",
        "s3_requests",
        "cost",
        "max_calls",
        "rate",
        "quota",
        "duration_s",
        "run_dir",
    ),
]


def foreseen(
    sources: list[Source],
    source: SourceSpec = BUCKET,
    *,
    prices: Json | None = None,
    duplicates: Json | None = None,
    **fields: Any,
) -> Json:
    files = MemoryFiles()
    given: dict[str, Any] = {"planned_rate": 4.0, **fields, "source": source.to_json()}
    spec = replace(a_spec(), **given)
    plan, count = Plan(files, RUN, 0), len(sources)
    plan.write(ShardHeader(0, count, 0, 10, {}, count), planned(map(ImageRef, sources)))
    whole = PlanSummary(1, count, count + 3, {"folder": 3}, duplicates=duplicates)
    plan.finish(whole)
    said = forecast(Runs(files), spec, whole, prices)
    orjson.dumps(said)
    return said


def objects(count: int, contents: int = 1_000_000) -> list[Source]:
    return [S3Object("b", f"in/{n}.jpg", f"{n % contents + 1:032x}", 1000) for n in range(count)]


def test_it_has_exactly_the_published_keys() -> None:
    assert list(foreseen(objects(3))) == KEYS


def test_every_image_may_cost_a_call_and_takes_its_time() -> None:
    said = foreseen(objects(10))
    assert (said["images"], said["bytes"], said["listed"], said["skipped"]) == (10, 10_000, 13, {"folder": 3})
    assert (said["calls"], said["rate"], said["duration_s"]) == (10, 4.0, 3)


def test_a_pipeline_takes_a_range_of_calls() -> None:
    tasks = [
        {"name": "t", "task": "tags"},
        {"name": "s", "task": "sfw", "after": "t", "when": "tags.auto.a gt 1"},
    ]
    said = foreseen(objects(10), engine_options={"tasks": tasks}, price_per_1000="10", dedupe="off")
    assert (said["least_calls"], said["calls"], said["tasks"]) == (10, 20, tasks)
    assert (said["cost"]["calls"], said["duration_s"], said["s3_requests"]["get"]) == (0.2, 3, 10)


@pytest.mark.parametrize(
    ("quota", "seconds"),
    [
        (Quota(), 25),
        (Quota(per_day=1000), 25),
        (Quota(per_day=100), 25),
        (Quota(per_day=99), 86_400),
        (Quota(per_day=30, per_month=1000), 3 * 86_400),
        (Quota(per_day=100, per_month=40), 2 * 28 * 86_400),
    ],
)
def test_a_quota_takes_whole_days_and_months(quota: Quota, seconds: int) -> None:
    assert quota.seconds(100, 4.0) == seconds


def test_what_equal_content_would_save_is_known_of_a_bucket() -> None:
    said = foreseen(objects(10, contents=4))
    assert (said["duplicates"], said["calls"]) == ({"images": 6, "bytes": 6000}, 10)
    said = foreseen(objects(10, contents=4), dedupe="exact", duplicates={"images": 6, "bytes": 6000})
    assert (said["duplicates"]["images"], said["calls"]) == (6, 4)


def test_metadata_is_for_the_latest_versions_and_tags_are_for_all() -> None:
    versions: list[Source] = [
        S3Object("b", "in/a.jpg", f"{n + 1:032x}", 1000, version_id=f"v{n}", is_latest=n == 0)
        for n in range(5)
    ]
    source = replace(BUCKET, all_versions=True)
    said = foreseen(versions, source, write_back=("metadata", "tags"))
    each = WRITES["tags"] + LOOKS["tags"] + LOOKS["metadata"]
    # A mark of metadata is looked for on an earlier version, and on the object.
    expected = each.times(5) + WRITES["metadata"] + Requests(head=4)
    assert (said["images"], said["earlier_versions"], said["calls"]) == (5, 4, 5)
    assert {name: said["s3_requests"][name] for name in ("head", "put", "copy")} == {
        "head": expected.head,
        "put": expected.put,
        "copy": expected.copy,
    }


def test_files_are_not_read_unless_asked_to() -> None:
    files: list[Source] = [LocalFile(f"file:///nowhere/{n}", f"{n}", 5, 0) for n in range(3)]
    said = foreseen(files, SourceSpec(Kind.FOLDER, "file:///nowhere"), write_back=("sidecar",))
    assert (said["duplicates"], said["calls"]) == (None, 3)
    assert said["s3_requests"] == Requests().to_json()


def test_lines_without_a_handle_cost_no_call() -> None:
    lines: list[Source] = [Handle("handle12345"), BadLine("l.txt", 2, "no handle")]
    source = SourceSpec(Kind.HANDLES, "file:///l.txt", input=Input("l.txt", ListFormat.TXT))
    said = foreseen(lines, source)
    assert (said["images"], said["calls"], said["s3_requests"]["list"]) == (2, 1, 0)


@pytest.mark.parametrize("sinks", [(), ("metadata",), ("tags", "sidecar"), tuple(WRITES)])
def test_requests_follow_from_the_sinks(sinks: tuple[str, ...]) -> None:
    each = sum((WRITES[name] + LOOKS[name] for name in sinks), Requests())
    said = foreseen(objects(300), write_back=sinks)["s3_requests"]
    canaries = (100 + 2) * 6 * len(sinks)
    assert said == {
        "head": 300 * each.head,
        "get": 300 * each.get + canaries + 300,
        "put": 300 * each.put,
        "copy": 300 * each.copy,
        "list": 1,
    }


def test_with_force_nobody_looks_for_earlier_tags() -> None:
    assert foreseen(objects(10), write_back=("metadata",), force=True)["s3_requests"]["head"] == 10


def test_a_sample_is_listed_twice() -> None:
    source = SourceSpec(Kind.S3, "s3://b/in/", sample=5, seed=1)
    assert foreseen(objects(5), source)["s3_requests"]["list"] == 2


def test_without_prices_the_cost_is_unknown() -> None:
    assert foreseen(objects(10))["cost"] == {
        "calls": None,
        "s3": None,
        "total": None,
        "price_per_1000": None,
        "s3_prices": None,
    }


def test_the_cost_is_that_of_calls_and_requests() -> None:
    said = foreseen(objects(1000), write_back=("metadata",), price_per_1000="1.5", prices=PRICES)
    requests = said["s3_requests"]
    writing = requests["copy"] + requests["put"] + requests["list"]
    reading = requests["head"] + requests["get"]
    cost = said["cost"]
    assert cost["calls"] == 1.5
    assert cost["s3"] == pytest.approx(writing * 0.005 / 1000 + reading * 0.0004 / 1000, abs=2e-6)
    assert cost["total"] == pytest.approx(cost["calls"] + cost["s3"])
    assert cost["s3_prices"]["as_of"] == "2026-11-01"


def test_folders_are_those_below_the_prefix() -> None:
    keys = ["in/2024/a.jpg", "in/2024/b.jpg", "in/2025/c.jpg"]
    sources: list[Source] = [S3Object("b", key, size=1) for key in keys]
    for uri in ("s3://b/in/", "s3://b/in/20"):
        said = foreseen(sources, SourceSpec(Kind.S3, uri))["folders"]["largest"]
        assert [(one["folder"], one["images"]) for one in said] == [("2024/", 2), ("2025/", 1)]
    assert foreseen(sources, SourceSpec(Kind.S3, "s3://b"))["folders"]["largest"][0]["folder"] == "in/"
