from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.runs import FIRST_PASS, a_spec

from tagmill.producer.exit_codes import ExitCode, exit_code
from tagmill.producer.report import describe_summary, print_summary, summary_exit_code
from tagmill.worker import errors
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store.runs import Control, Verb
from tagmill.worker.summary import summary

DONE = "2026-11-22T00:01:30+00:00"


def said(counts: Counts | None = None, **changes: Any) -> Json:
    facts: dict[str, Any] = {
        "location": "runs-here",
        "planned": 12,
        "finished_at": DONE,
    } | changes
    return summary(a_spec(), FIRST_PASS, counts=counts or Counts(tagged=12, calls=12), **facts)


def paused(reason: str | None) -> Json:
    return said(finished_at=None, control=Control(1, Verb.PAUSE, reason))


def test_a_completed_run_says_where_its_results_are() -> None:
    counts = Counts(tagged=9, failed=2, skipped=1, calls=14, maybe_charged=1, throttled=3)
    counts.writes |= {"written": 8, "stale": 1}
    assert describe_summary(said(counts)).splitlines() == [
        "run a-run: completed, 12 images in 90.0 s",
        "  9 tagged, 2 failed, 1 skipped",
        "  14 calls (1 maybe charged, 3 throttled)",
        "  write-backs: 8 written, 1 stale",
        "  skipped: no image, or tagged already (--force pays again); the manifest says which",
        "  manifest: runs-here/runs/a-run/manifest.jsonl",
        "  failures: runs-here/runs/a-run/failures.jsonl",
    ]


def test_a_run_over_images_that_were_all_tagged_before_is_done() -> None:
    assert summary_exit_code(said(Counts(skipped=12))) is ExitCode.DONE


def test_a_run_without_failures_names_no_file_of_them() -> None:
    assert "failures" not in describe_summary(said())
    assert "failures" in describe_summary(said(Counts(tagged=11, quarantined=1)))


def test_what_equal_content_saved_is_told() -> None:
    said_so = said(Counts(tagged=2, duplicate=10, calls=2))
    assert "  saved: 10 calls, for images of equal content\n" in describe_summary(said_so)
    said_so["saved"]["cost"] = 0.0149
    assert "  saved: 10 calls, 0.01, for images" in describe_summary(said_so)


def test_what_became_of_a_known_source_is_told() -> None:
    known = a_spec(mode="changed", state={"name": "a-source", "base": 3})
    facts = {"location": "here", "counts": Counts(), "finished_at": DONE}

    def line(found: dict[str, int]) -> str:
        told = summary(known, FIRST_PASS, **facts, planned=found.get("new", 0), found=found)  # type: ignore[arg-type] # as above
        [line] = [one for one in describe_summary(told).splitlines() if "since" in one]
        return line

    assert (
        line({"unchanged": 9, "disappeared": 1})
        == "  since the last run: nothing new, 9 unchanged, 1 disappeared (mode changed)"
    )
    assert line({"new": 2, "unchanged": 9}) == "  since the last run: 2 new, 9 unchanged (mode changed)"
    assert said()["incremental"] is None


def test_a_price_tells_the_cost() -> None:
    assert "  12 calls, cost 0.02\n" in describe_summary({**said(), "cost": 0.018})


def test_a_paused_run_says_why_and_how_to_go_on() -> None:
    lines = describe_summary(paused("credentials"), "Filestack refuses the key").splitlines()
    assert lines[0].startswith("run a-run: paused (credentials), 12 images")
    assert lines[-2:] == ["  Filestack refuses the key", "  go on with: tagmill resume a-run"]


def test_a_planned_run_is_started() -> None:
    lines = describe_summary(paused("planned")).splitlines()
    assert lines[-1] == "  go on with: tagmill run --plan a-run"


def test_for_programs_it_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(said(), as_json=True)
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.count("\n") == 1
    assert orjson.loads(output.out) == said()


def test_for_people_it_is_text_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(said(), as_json=False)
    assert capsys.readouterr().out == describe_summary(said()) + "\n"


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (said(), ExitCode.DONE),
        (said(Counts(tagged=11, failed=1)), ExitCode.FAILED_IMAGES),
        (said(Counts(tagged=11, quarantined=1)), ExitCode.FAILED_IMAGES),
        (said(Counts(tagged=11, skipped=1)), ExitCode.DONE),
        (paused("credentials"), ExitCode.CREDENTIALS),
        (paused("quota"), ExitCode.CREDENTIALS),
        (paused("outage"), ExitCode.TEMPORARY),
        (paused("budget"), ExitCode.BUDGET),
        (paused("failure_rate"), ExitCode.FAILURE_RATE),
        (paused("time_limit"), ExitCode.TIME_LIMIT),
        (paused("interrupted"), ExitCode.INTERRUPTED),
        (paused("by hand"), ExitCode.PAUSED_ELSEWHERE),
        (paused(None), ExitCode.PAUSED_ELSEWHERE),
        (said(finished_at=None, control=Control(1, Verb.CANCEL)), ExitCode.PAUSED_ELSEWHERE),
        (said(finished_at=None), ExitCode.INTERRUPTED),
    ],
)
def test_the_shell_hears_how_it_ended(summary: Json, code: ExitCode) -> None:
    assert summary_exit_code(summary) is code


def test_a_run_left_to_the_fleet_is_well() -> None:
    assert summary_exit_code(said(finished_at=None), detached=True) is ExitCode.DONE
    assert summary_exit_code(paused("quota"), detached=True) is ExitCode.CREDENTIALS


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFoundError(""), 3),
        (errors.ConfigError(""), 2),
        (errors.CredentialsError(""), 7),
        (errors.QuotaExhaustedError(""), 7),
        (errors.RedisUnavailableError(""), 5),
        (errors.RunStoreUnavailableError(""), 5),
    ],
)
def test_every_error_has_its_published_code(error: errors.TaggingError, code: int) -> None:
    assert exit_code(error) == code


def test_the_codes_are_those_that_are_published() -> None:
    assert sorted(ExitCode) == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 130]
