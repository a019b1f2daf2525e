"""A run over Workflows as people do it: no job is started twice, whatever is lost, late, killed or wiped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers.fleet import (
    Fleet,
    Program,
    assert_all_tagged,
    assert_every_call_counted,
    assert_whole,
    running_fleet,
)
from servers.redis import free_port
from servers.webhook_load import SECRET

WORKFLOW = "11111111-2222-4333-8444-555555555555"
ENGINE = ("--engine", "filestack-workflow", "--workflow-id", WORKFLOW)
WORKFLOWS = f"""
[workflows.people]
id = "{WORKFLOW}"
seconds = 0.3
progress = ["InProgress"]

[workflows.people.tasks.tags_1]
task = "tags"

[workflows.people.tasks.safe]
task = "sfw"
after = "tags_1"
"""
#: Of webhooks one in ten is lost, one in ten comes twice, one in twenty is late, one in a hundred is forged.
TROUBLES: list[dict[str, Any]] = [
    {"operation": "webhook", "fault": "lost", "probability": 0.1},
    {"operation": "webhook", "fault": "doubled", "probability": 0.11},
    {"operation": "webhook", "fault": "late", "probability": 0.06, "seconds": 2},
    {"operation": "webhook", "fault": "tampered", "probability": 0.015},
    {"operation": "webhook", "fault": "no_jobid", "probability": 0.02},
    {"operation": "run_workflow", "fault": "job_failed", "every": 40},
    {"operation": "run_workflow", "fault": "reset_after", "probability": 0.02},
    {"operation": "run_workflow", "fault": "truncated", "probability": 0.02},
    {"operation": "run_workflow", "fault": "503", "times": 1},
    {"operation": "run_workflow", "fault": "no_jobid", "probability": 0.02},
]


@dataclass
class Site:
    fleet: Fleet
    port: int

    def receiver(self) -> Program:
        """A receiver that takes connections."""
        program = self.fleet.deployment.start("serve", "--port", str(self.port))
        said = re.compile(r"receiving at \S+")
        self.fleet.deployment.until(lambda: said.search(program.stderr), "a receiver")
        return program

    def states(self) -> dict[str, int]:
        found: dict[str, int] = self.fleet.sandbox.stats()["webhooks"]
        return found

    def started(self) -> list[Path]:
        """Files of chunks that were given back."""
        return list((self.fleet.deployment.run("troubled").first_pass / "started").glob("*.gz"))

    def told(self) -> set[str]:
        """Images of whose job a webhook has told; there is none of a start that a kill kept from leaving."""
        deliveries = self.fleet.sandbox.deliveries()
        return {delivery["image"] for delivery in deliveries if delivery["state"] == "delivered"}

    def starts(self) -> list[int]:
        """How many jobs each image has, by the service's own record; polls are about none."""
        images = self.fleet.sandbox.stats(images=True)["images"].values()
        return [image["billed"] for image in images if image["billed"]]


@contextmanager
def running_site(folder: Path, images: int, **settings: str) -> Iterator[Site]:
    """Yield a fleet, and a service that runs a Workflow and tells of it by webhook."""
    port = free_port()
    (folder / "workflows.toml").write_text(WORKFLOWS)
    hook = {"url": f"http://127.0.0.1:{port}/webhooks/filestack/default", "secret": SECRET}
    sandbox = {
        "workflows": str(folder / "workflows.toml"),
        "webhooks": [{**hook, "actions": ["fs.workflow"]}],
        "webhook_retries": [0.5, 1, 2],
        "latency_seconds": 0.0,
    }
    own = {"TAGMILL_WEBHOOK_SECRETS": SECRET, **settings}
    with running_fleet(folder, images, own, **sandbox) as fleet:
        yield Site(fleet, port)


def test_results_come_by_asking_where_nobody_listens(tmp_path: Path) -> None:
    with running_site(tmp_path, 30) as site:
        deployment = site.fleet.deployment
        deployment.worker()
        deployment.finish(site.fleet.run_all("asked", *ENGINE))
        with deployment.explained():
            rows = assert_all_tagged(deployment.run("asked"), site.fleet.ids)
            assert {row["engine"] for row in rows} == {"filestack-workflow"}
            assert {tuple(row["results"]) for row in rows} == {("tags_1", "safe")}
            assert {row["results"]["tags_1"]["data"]["tags"] == row["raw_tags"] for row in rows} == {True}
            assert site.starts() == [1] * 30
            assert deployment.run("asked").summary()["calls"] == 30


def go_through_troubles(site: Site, images: int) -> None:
    fleet, deployment = site.fleet, site.fleet.deployment
    fleet.sandbox.faults(*TROUBLES, seed=5)
    receiver, worker = site.receiver(), deployment.worker()
    run = fleet.run_all("troubled", *ENGINE)

    fleet.await_calls(images // 3)
    with fleet.redis.sync_client() as client:
        client.flushall()
    # Both at once would lose what stood in Redis alone: the starts of chunks that nobody had given back.
    given_back = len(site.started())
    deployment.until(lambda: len(site.started()) > given_back + 1, "chunks that are given back")
    fleet.await_calls(images // 2)
    worker.kill()
    deployment.until(lambda: site.states().get("delivered", 0) >= images // 6, "webhooks")
    receiver.kill()
    deployment.worker()
    fleet.await_calls(images * 3 // 4)
    site.receiver()

    deployment.finish(run, code=1, within=300)


def check_troubles(site: Site) -> None:
    """Every image has one row and no more than one job, not even where that may be."""
    run = site.fleet.deployment.run("troubled")
    rows = assert_whole(run, site.fleet.ids)
    assert set(site.starts()) == {1}
    failed = [row for row in rows if row["status"] != "tagged"]
    assert {row["error"]["code"] for row in failed} <= {"workflow_failed", "workflow_timeout"}
    timeouts = {row["source"]["handle"] for row in failed if row["error"]["code"] == "workflow_timeout"}
    assert not timeouts & site.told(), "nobody could know of these"
    assert_every_call_counted(run, site.fleet.sandbox.stats()["calls"])
    assert "tampered" not in {label for row in rows if row["tags"] for label in row["tags"]["auto"]}


def test_no_job_is_started_twice_whatever_happens(tmp_path: Path) -> None:
    with running_site(tmp_path, 80, TAGMILL_JOB_DEADLINE="8", TAGMILL_RATE="100/s") as site:
        go_through_troubles(site, 80)
        with site.fleet.deployment.explained():
            check_troubles(site)


@pytest.mark.long
def test_nor_is_one_of_a_thousand(tmp_path: Path) -> None:
    with running_site(tmp_path, 1000, TAGMILL_JOB_DEADLINE="60", TAGMILL_RATE="100/s") as site:
        go_through_troubles(site, 1000)
        with site.fleet.deployment.explained():
            check_troubles(site)
