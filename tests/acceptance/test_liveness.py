"""Workers that hang, and workers of two versions side by side."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from servers import newer_worker
from servers.fleet import Fleet, Program, assert_all_tagged, running_fleet

PATIENCE = "3s"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, 60, {"TAGMILL_PROCESSES": "1"}) as fleet:
        yield fleet


def probed(fleet: Fleet, code: int) -> str:
    """Look until the probe answers so; return what it says."""

    def look() -> str | None:
        probe = fleet.deployment.start("probe", "--stuck-after", PATIENCE)
        return probe.stdout if probe.wait() == code else None

    return fleet.deployment.until(look, f"the probe ends with {code}") or ""


def pool_process(worker: Program) -> psutil.Process:
    return worker.descendants()[0]


@pytest.mark.long
def test_a_worker_whose_process_hangs_is_found_and_so_is_one_that_hangs_itself(fleet: Fleet) -> None:
    deployment = fleet.deployment
    assert "no worker of this host" in probed(fleet, 1)
    worker = deployment.worker()
    assert "well" in probed(fleet, 0)
    run = fleet.run_all("hung")
    fleet.await_calls(5)

    pool_process(worker).suspend()
    assert "has finished nothing for" in probed(fleet, 1)
    pool_process(worker).resume()

    fleet.hurry()
    deployment.finish(run)
    assert "well" in probed(fleet, 0)
    worker.process.send_signal(signal.SIGSTOP)
    assert "no sign of life" in probed(fleet, 1)
    worker.process.send_signal(signal.SIGCONT)
    with deployment.explained():
        assert_all_tagged(deployment.run("hung"), fleet.ids)


def test_a_probe_that_cannot_know_restarts_nobody(fleet: Fleet) -> None:
    probe = fleet.deployment.start("probe", TAGMILL_REDIS_URL="redis://127.0.0.1:1/0")
    assert "nothing is known" in fleet.deployment.finish(probe).stdout


def test_a_probe_without_sense_says_so(fleet: Fleet) -> None:
    never = fleet.deployment.start("probe", "--stuck-after", "soon")
    nowhere = fleet.deployment.start("probe", TAGMILL_REDIS_URL="")
    for probe in (never, nowhere):
        assert fleet.deployment.finish(probe, code=2).stderr.count("\n") == 1


@pytest.mark.long
def test_workers_of_two_versions_leave_each_other_their_messages(fleet: Fleet) -> None:
    deployment = fleet.deployment
    fleet.sandbox.faults(latency_ms=2000)  # so that there is work left when the newer one has started
    run = fleet.run_all("rolling")
    deployment.worker()
    fleet.await_calls(1)
    newer = deployment.start_command([sys.executable, "-P", newer_worker.__file__], "newer-worker")

    def left() -> dict[str, int]:
        counts: dict[str, int] = deployment.status("rolling", "--details")["foreign_messages"]
        return counts

    assert list(deployment.until(left, "the newer worker leaves a message")) == ["1"]
    fleet.hurry()
    deployment.finish(run)
    with deployment.explained():
        assert_all_tagged(deployment.run("rolling"), fleet.ids)
        assert newer.running
        assert sum(left().values()) < 20
        assert fleet.sandbox.stats()["calls"] == len(fleet.handles)
