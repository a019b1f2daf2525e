"""`tagmill serve` as people run it: what it thanks for is never lost, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from servers.fleet import PIXEL, Deployment, Program, deployed, running_fleet
from servers.sandbox import running_sandbox
from servers.webhook_load import SECRET, Sent, letters, storm

from tagmill.worker.store.folder import Folder
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.webhook_events import Event, WebhookEvents

ENDPOINT = "webhooks/filestack/default"
ON_UPLOAD = """
[workflows.people]
id = "11111111-2222-4333-8444-555555555555"
seconds = 0
on_upload = true
[workflows.people.tasks.tags_1]
task = "tags"
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path, TAGMILL_WEBHOOK_SECRETS=f"the-next-secret,{SECRET}") as deployment:
        yield deployment


def serve(deployment: Deployment, *arguments: str) -> tuple[Program, str]:
    """A receiver that takes connections, and its address."""
    program = deployment.start("serve", "--port", "0", *arguments)
    line = re.compile(r"receiving at (\S+)/webhooks/\S+\n")
    (url,) = deployment.until(lambda: line.findall(program.stderr), "a receiver")
    return program, url


def kept(deployment: Deployment) -> list[Event]:
    return list(WebhookEvents(Folder(deployment.store)).since(datetime.now(UTC) - timedelta(hours=1)))


def test_nothing_thanked_for_is_lost_when_it_is_killed(deployment: Deployment) -> None:
    program, url = serve(deployment)

    def go_on(sent: list[Sent]) -> bool:
        if len(sent) >= 300 and program.running:
            program.kill()  # with others in flight
        return True

    sent = asyncio.run(storm(f"{url}/{ENDPOINT}", 24, go_on))
    thanked = {one.id for one in sent if one.status == 200}
    assert len(thanked) >= 300
    assert thanked <= {event.id for event in kept(deployment)}
    assert {one.status for one in sent} == {0, 200}


def test_term_ends_it_when_what_is_in_hand_is_kept(deployment: Deployment) -> None:
    program, url = serve(deployment)

    def go_on(sent: list[Sent]) -> bool:
        if len(sent) == 100:
            program.terminate()
        return True

    sent = asyncio.run(storm(f"{url}/{ENDPOINT}", 8, go_on))
    deployment.finish(program)
    assert {one.id for one in sent if one.status == 200} == {event.id for event in kept(deployment)}


def test_it_takes_what_the_service_sends_and_says_what_it_set_aside(
    deployment: Deployment, tmp_path: Path
) -> None:
    _, url = serve(deployment)
    hook = {"url": f"{url}/{ENDPOINT}", "secret": SECRET}
    with running_sandbox(data_folder=str(tmp_path / "sandbox"), webhooks=[hook]) as sandbox:
        handle = sandbox.upload(b"a picture")
        deployment.until(lambda: kept(deployment), "an event")
    ((action, found),) = [(event.action, event.handle) for event in kept(deployment)]
    assert (action, found) == ("fp.upload", handle)
    _, letter = next(letters(1))
    unsigned = httpx.post(hook["url"], content=letter.body)
    assert unsigned.status_code == 401
    nonsense = type(letter).signed(b"nonsense", SECRET, 1)
    assert httpx.post(hook["url"], content=b"nonsense", headers=nonsense.headers).status_code == 200
    shown = deployment.finish(deployment.start("webhooks", "quarantined"))
    assert 'default not_json: "nonsense"' in shown.stdout
    listed = deployment.finish(deployment.start("webhooks", "quarantined", "--json")).json
    assert [one["reason"] for one in listed["quarantined"]] == ["not_json"]


def test_the_result_of_a_workflow_that_an_upload_triggered_becomes_a_row(tmp_path: Path) -> None:
    workflows = tmp_path / "workflows.toml"
    workflows.write_text(ON_UPLOAD)
    settings = {"TAGMILL_WEBHOOK_SECRETS": SECRET, "TAGMILL_WEBHOOK_GRACE": "1"}
    with running_fleet(tmp_path, 0, settings, workflows=str(workflows)) as fleet:
        deployment = fleet.deployment
        deployment.worker()
        _, url = serve(deployment)
        fleet.sandbox.webhooks({"url": f"{url}/{ENDPOINT}", "secret": SECRET})
        handle = fleet.sandbox.upload(PIXEL)
        run_id = deployment.until(lambda: next(Runs(Folder(deployment.store)).ids(), ""), "a run of events")
        parts = Parts(Folder(deployment.store), run_id, 0)
        deployment.until(lambda: list(parts.lines_of_shard(0)), "its first row")
        (row,) = map(json.loads, parts.lines_of_shard(0))
        assert fleet.sandbox.stats()["calls"] == 0
        deployment.until(
            lambda: (
                deployment.finish(deployment.start("webhooks", "counts", "--json")).json["counts"]
                == {"fp.upload": 1, "fs.workflow": 1}
            ),
            "both events dealt with",
        )
    assert run_id.startswith("events-workflow-11111111-")
    assert (row["id"], row["status"], row["calls"]) == (f"filestack:{handle}", "tagged", 0)
    assert row["tags"]["auto"] == row["results"]["tags_1"]["data"]["tags"]["auto"] != {}
    assert (row["run_id"], row["shard"], row["index"]) == (run_id, 0, 0)


@pytest.mark.parametrize(
    ("settings", "arguments", "complaint"),
    [
        ({"TAGMILL_WEBHOOK_SECRETS": ""}, [], "no webhook is set up"),
        ({"TAGMILL_WEBHOOK_SECRETS": "short"}, [], "TAGMILL_WEBHOOK_SECRETS.0: "),
        ({}, ["--host", "256.0.0.1"], "cannot listen on 256.0.0.1:"),
        ({"TAGMILL_RUN_STORE": "/dev/null/store"}, [], "TAGMILL_RUN_STORE cannot be used"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    deployment: Deployment, settings: dict[str, str], arguments: list[str], complaint: str
) -> None:
    deployment.environment |= settings
    program = deployment.start("serve", *arguments)
    deployment.finish(program, 2)
    assert program.stderr.count("\n") == 1
    assert complaint in program.stderr
    assert "short" not in program.stderr


def test_secrets_come_from_the_file_and_show_up_nowhere(deployment: Deployment, tmp_path: Path) -> None:
    del deployment.environment["TAGMILL_WEBHOOK_SECRETS"]
    (tmp_path / "tagmill.toml").write_text(f'[webhooks.main]\nsecrets = ["{SECRET}"]\n')
    program, url = serve(deployment, "--log-level", "debug")
    _, letter = next(letters(1))
    hook = f"{url}/webhooks/filestack/main"
    assert httpx.post(hook, content=letter.body, headers=letter.headers).status_code == 200
    assert httpx.post(hook, content=letter.body).status_code == 401
    program.terminate()
    deployment.finish(program)
    for text in (program.stderr, program.stdout, json.dumps([str(event) for event in kept(deployment)])):
        assert SECRET not in text
    assert "webhooks_refused" in program.stderr
