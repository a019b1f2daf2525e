from __future__ import annotations

from typing import Any

from fakes.runs import FIRST_PASS, a_spec

from tagmill.producer.describing import describe_details
from tagmill.producer.display import no_worker
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.summary import summary

PACE = {
    "images_per_second": 19.96,
    "average_per_second": 17.2,
    "limit_per_second": 20.0,
    "limiter_share": 0.731,
    "eta_s": 125.0,
}
CALM = {"limiter": {"blocked_s": 0.0, "share_of_rate": 1.0}, "breaker": {"open_since": None, "reason": None}}


def details(**changes: Any) -> Json:
    going = summary(a_spec(), FIRST_PASS, location="", planned=12, counts=Counts(tagged=3))
    told: Json = {
        "run": going,
        "errors": {},
        "lane": "backfill",
        "planning": False,
        "pace": PACE,
        "workers": [],
        "foreign_messages": {},
        **CALM,
    }
    return told | changes


def worker(*chunks: str, alive: bool = True) -> Json:
    held = [{"pass": 0, "chunk": chunk, "lease_s": 80.0} for chunk in chunks]
    return {"name": "vm-1", "alive": alive, "processes": 4 if alive else 0, "chunks": held}


def test_pace_limit_and_end_are_one_line() -> None:
    assert describe_details(details(workers=[worker("00000000-00020")])) == [
        "  20.0/s now, 17.2/s on average, limiter (20/s) 73% of the time; ETA 2 min 05 s",
        "  worker vm-1 (4 processes): 00000000-00020",
    ]


def test_what_is_not_known_is_left_out() -> None:
    unknown = dict.fromkeys(PACE)
    assert describe_details(details(pace=unknown, workers=None, limiter=None, breaker=None)) == [
        "  ETA unknown"
    ]


def test_the_end_of_what_is_still_being_planned_is_not_the_end() -> None:
    assert describe_details(details(planning=True))[0].endswith("ETA 2 min 05 s+")


def test_what_went_wrong_is_counted_by_code() -> None:
    assert describe_details(details(errors={"missing": 2, "rejected": 1}))[0] == (
        "  errors: 2 missing, 1 rejected"
    )


def test_dead_workers_and_their_chunks_are_named_and_that_nobody_lives() -> None:
    names = [f"00000000-{number:05d}" for number in range(0, 60, 10)]
    lines = describe_details(details(workers=[worker(*names, alive=False)]))
    assert lines[1:] == [
        "  worker vm-1 (dead): 00000000-00000, 00000000-00010, 00000000-00020, 00000000-00030 and 2 more",
        f"  {no_worker('backfill')}",
    ]
    assert describe_details(details(workers=[worker()]))[1].endswith(": no chunk of this run")


def test_it_says_why_calls_wait() -> None:
    opened = {"open_since": "2026-11-22T00:00:00+00:00", "reason": "8 calls failed in a row"}
    blocked = {"blocked_s": 12.4, "share_of_rate": 0.5}
    lines = describe_details(details(breaker=opened, limiter=blocked))
    assert lines[1:3] == [
        "  calls are off since 2026-11-22T00:00:00+00:00, but for probes: 8 calls failed in a row",
        "  the service throttles: no call for 12 s, then more slowly for a while",
    ]
    recovering = {"blocked_s": 0.0, "share_of_rate": 0.62}
    assert "slowed down to 62% of the rate" in describe_details(details(limiter=recovering))[1]


def test_of_a_run_that_rests_only_its_errors_are_told() -> None:
    rests = details(errors={"missing": 2})
    rests["run"]["state"] = "paused"
    assert describe_details(rests) == ["  errors: 2 missing"]
