from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, a_spec

from tagmill.worker import summary as module
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store.runs import Control, Verb
from tagmill.worker.summary import finished, read_summary, summary

#: As published: who reads `--json` relies on every one of them, and on their order for people.
KEYS = [
    *("schema", "run_id", "state", "reason", "pass", "planned"),
    *("tagged", "failed", "skipped", "duplicate", "quarantined", "cancelled", "remaining"),
    *("calls", "maybe_charged", "unaccounted", "throttled", "cost"),
    *("writes", "duration_s", "run_dir", "manifest", "warnings"),
    *("saved", "incremental"),
]
COUNTS = Counts(tagged=5, failed=2, skipped=1, quarantined=1, calls=9, maybe_charged=3, throttled=4)


def summarise(**changes: Any) -> Json:
    facts: dict[str, Any] = {
        "location": "s3://bucket/runs-here",
        "planned": 12,
        "counts": COUNTS,
    } | changes
    return summary(a_spec(), FIRST_PASS, **facts)


def test_it_has_exactly_the_published_keys() -> None:
    assert list(summarise()) == KEYS
    assert list(summarise()["writes"]) == ["written", "unchanged", "stale", "skipped", "failed"]
    orjson.dumps(summarise())


def test_a_run_under_way_tells_what_is_left() -> None:
    said = summarise()
    assert (said["state"], said["reason"], said["schema"], said["cost"]) == ("running", None, 1, None)
    assert (said["planned"], said["tagged"], said["failed"], said["remaining"]) == (12, 5, 2, 3)
    assert (said["calls"], said["maybe_charged"], said["throttled"]) == (9, 3, 4)


def test_cost_is_that_of_all_calls() -> None:
    said = summary(
        a_spec(price_per_1000="1.25"), FIRST_PASS, location="here", planned=12, counts=Counts(calls=1001)
    )
    assert said["cost"] == 1.25125


def test_each_duplicate_saved_a_call_and_who_waits_is_left() -> None:
    counts = Counts(tagged=2, duplicate=4, waiting=3, calls=2)
    said = summary(a_spec(price_per_1000="1.25"), FIRST_PASS, location="here", planned=9, counts=counts)
    assert (said["saved"], said["remaining"]) == ({"calls": 4, "cost": 0.005}, 3)


def test_more_outcomes_than_are_planned_so_far_leave_nothing() -> None:
    assert summarise(planned=8)["remaining"] == 0


@pytest.mark.parametrize(
    ("control", "state", "reason"),
    [
        (Control(1, Verb.PAUSE, "credentials"), "paused", "credentials"),
        (Control(2, Verb.CANCEL, "by hand"), "cancelled", "by hand"),
        (Control(3, Verb.RESUME, "forgotten"), "running", None),
    ],
)
def test_what_it_is_doing_is_what_control_says(control: Control, state: str, reason: str | None) -> None:
    said = summarise(control=control)
    assert (said["state"], said["reason"]) == (state, reason)


def test_a_finished_run_is_completed_whatever_control_says() -> None:
    said = summarise(control=Control(1, Verb.PAUSE, "late"), finished_at="2026-11-22T00:01:30.25+00:00")
    assert (said["state"], said["reason"], said["duration_s"]) == ("completed", None, 90.2)


def test_the_duration_of_a_run_under_way_ends_now() -> None:
    spec = replace(a_spec(), created_at=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    said = summary(spec, FIRST_PASS, location="", planned=0, counts=Counts())
    assert 3600 <= said["duration_s"] < 3660


def test_the_manifest_is_one_file_up_to_a_million_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SINGLE_FILE_ROWS", 12)
    assert summarise()["run_dir"] == "s3://bucket/runs-here/runs/a-run"
    assert summarise()["manifest"] == "s3://bucket/runs-here/runs/a-run/manifest.jsonl"
    assert summarise(planned=13)["manifest"] == "s3://bucket/runs-here/runs/a-run/passes/0000/manifest.json"


def test_a_run_is_finished_when_its_summary_is_written_for_that_pass() -> None:
    files = MemoryFiles()
    assert read_summary(files, "a-run") is None
    assert not finished(files, "a-run", 0)
    said = summarise(finished_at="2026-11-22T00:01:30+00:00")
    files.contents["runs/a-run/summary.json"] = orjson.dumps(said)
    assert read_summary(files, "a-run") == said
    assert finished(files, "a-run", 0)
    assert not finished(files, "a-run", 1)
