from __future__ import annotations

from typing import Any

import orjson
import pytest

from tagmill.producer.plan_report import print_forecast, size
from tagmill.worker.models import Json

FORECAST: Json = {
    "run_id": "a-run",
    "source": "s3://b/in/",
    "engine": "filestack",
    "write_back": ["metadata"],
    "dedupe": "off",
    "mode": "all",
    "found": {},
    "listed": 1_300_012,
    "images": 1_300_000,
    "bytes": 2_600_000_000_000,
    "earlier_versions": 0,
    "skipped": {"folder": 9, "empty": 3},
    "types": {
        "largest": [{"type": "jpg", "images": 1_299_000, "bytes": 2_500_000_000_000}],
        "others": {"names": 3, "images": 1000, "bytes": 100_000_000_000},
    },
    "folders": {"largest": [], "others": {"names": 0, "images": 0, "bytes": 0}},
    "sizes": [
        {"from": 0, "below": 10_000, "images": 0, "bytes": 0},
        {"from": 10_000, "below": 100_000, "images": 1_299_998, "bytes": 2_600_000_000_000},
        {"from": None, "below": None, "images": 2, "bytes": 0},
    ],
    "duplicates": {"images": 100_000, "bytes": 5_000_000},
    "tasks": [],
    "least_calls": 1_300_000,
    "calls": 1_300_000,
    "s3_requests": {"head": 2_600_000, "get": 0, "put": 0, "copy": 1_300_000, "list": 1301},
    "cost": {
        "calls": 1950.0,
        "s3": 7.546505,
        "total": 1957.546505,
        "price_per_1000": "1.5",
        "s3_prices": {"put_per_1000": "0.005", "get_per_1000": "0.0004", "as_of": "2026-11-01"},
    },
    "max_calls": None,
    "rate": 20.0,
    "quota": {"per_day": None, "per_month": None},
    "duration_s": 65_000,
    "effects": ["s3://b keeps versions: each rewritten image becomes one more, paid for, too"],
    "needed": ["--allow-new-versions"],
}


def lines(capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    print_forecast({**FORECAST, **changes}, as_json=False)
    return capsys.readouterr().out.splitlines()


def test_people_read_what_it_takes_and_how_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys) == [
        "run a-run: s3://b/in/, planned and not started",
        "  1,300,000 images, 2.6 TB of 1,300,012 things that were listed",
        "  passed over: 9 folder, 3 empty",
        "  types: jpg 1,299,000 (2.5 TB), 3 others 1,000 (100 GB)",
        "  sizes: from 10 KB 1,299,998, unknown 2",
        "  equal content: 100,000 images, 5 MB that others have, too; --dedupe exact would not ask for them",
        "  calls: 1,300,000 and what is retried",
        "  requests to S3: at most 2,600,000 HEAD, 1,300,000 COPY, 1,301 LIST",
        "  cost: 1950.00 for first calls, at 1.5 per 1,000 + 7.55 for S3, at prices of 2026-11-01",
        "  duration: 18 h 03 min or more, at 20 calls/s",
        "  write-back: metadata, engine: filestack",
        "  s3://b keeps versions: each rewritten image becomes one more, paid for, too",
        "  start it with: tagmill run --plan a-run --allow-new-versions",
    ]


def test_a_pipeline_is_told_with_the_range_of_its_calls(capsys: pytest.CaptureFixture[str]) -> None:
    tasks: list[Json] = [
        {"name": "tags_1", "task": "tags", "main": True},
        {"name": "safe", "task": "sfw", "after": "tags_1", "when": 'tags.auto kex "person"'},
    ]
    said = lines(capsys, tasks=tasks, calls=2_600_000)
    assert "  calls: 1,300,000 to 2,600,000 and what is retried" in said
    assert '  tasks: tags_1, safe (when tags.auto kex "person")' in said
    assert said[8].startswith("  cost: at most 1950.00 for first calls")


def test_what_is_known_of_the_source_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys, found={"new": 3, "unchanged": 1_000_000}, mode="changed")
    assert "  since the last run: 3 new, 1,000,000 unchanged (mode changed)" in shown


def test_earlier_versions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = "  3 of them are earlier versions"
    assert f"{told}, without metadata" in lines(capsys, earlier_versions=3)
    assert told in lines(capsys, earlier_versions=3, write_back=["tags"])


def test_bounds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, max_calls=1000, quota={"per_day": 5000, "per_month": 90_000})
    assert "  calls: 1,300,000 and what is retried; the run pauses after 1,000" in said
    assert "  duration: 18 h 03 min or more, at 20 calls/s and 5,000 a day and 90,000 a month" in said
    assert "pauses" not in "".join(lines(capsys, max_calls=1_300_000))


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"calls": None, "s3": None, "total": None, "price_per_1000": None, "s3_prices": None}
    text = "\n".join(lines(capsys, cost=unknown, duplicates=None, write_back=[]))
    assert "TAGMILL_PRICE_PER_1000" in text
    assert "not looked for: --dedupe exact" in text
    assert "write-back: none" in text


def test_programs_read_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_forecast(FORECAST, as_json=True)
    said = capsys.readouterr().out
    assert (said.count("\n"), orjson.loads(said)) == (1, FORECAST)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (999_499, "999 KB"),
        (999_500, "1 MB"),
    ],
)
def test_sizes_are_for_reading(count: int, text: str) -> None:
    assert size(count) == text
