"""Workflow jobs over HTTP: started, watched, told by webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from servers.sandbox import SandboxUnderTest, running_sandbox
from servers.webhooks import WAIT_SECONDS, Received, WebhookReceiver, receiving_webhooks

PEOPLE, SLOW, UPLOADED = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "123")
UNKNOWN = "AbCdEfGhIjKlMnOpQr01"
SECRET = "example-webhook-secret-not-real"
WORKFLOWS = f"""
[workflows.people]
id = "{PEOPLE}"
[workflows.people.tasks.tags_1]
task = "tags"
[workflows.people.tasks.safe]
task = "sfw"
after = "tags_1"
when = 'tags.auto kex "red"'
[workflows.people.tasks.described]
task = "caption"
after = "tags_1"
when = 'tags.auto kex "blue"'

[workflows.slow]
id = "{SLOW}"
seconds = 600
progress = []
[workflows.slow.tasks.tags]
"""
ON_UPLOAD = f"""
[workflows.uploaded]
id = "{UPLOADED}"
on_upload = true
progress = ["InProgress"]
[workflows.uploaded.tasks.caption]
"""


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("workflows") / "workflows.toml"
    path.write_text(WORKFLOWS)
    return path


@pytest.fixture(scope="module")
def shared_sandbox(folder: Path, web: str, workflows: Path) -> Iterator[SandboxUnderTest]:
    aliases = {"photos": str(folder), "bucket": f"{web}/dir"}
    with running_sandbox(aliases=aliases, workflows=str(workflows), webhook_retries=[0, 0, 0]) as running:
        yield running


@pytest.fixture
def receiver(sandbox: SandboxUnderTest) -> Iterator[WebhookReceiver]:
    """The sandbox's only webhook."""
    with receiving_webhooks() as receiver:
        sandbox.webhooks({"url": receiver.url, "secret": SECRET})
        yield receiver
        sandbox.webhooks()


def run(sandbox: SandboxUnderTest, source: str, workflow: str = PEOPLE) -> Any:
    security = sandbox.security("convert", "runWorkflow")
    got = sandbox.send(f"/{sandbox.key}/{security}/run_workflow=id:{workflow}/{source}")
    assert got.status == 200
    return got.json


def status(sandbox: SandboxUnderTest, job_id: str) -> Any:
    security = sandbox.security("convert", "runWorkflow")
    got = sandbox.send(f"/{sandbox.key}/{security}/workflow_status=job_id:{job_id}")
    assert got.status == 200
    return got.json


def ended(sandbox: SandboxUnderTest, job_id: str) -> Any:
    """Ask until the job has results."""
    deadline = time.monotonic() + WAIT_SECONDS
    while "results" not in (job := status(sandbox, job_id)):
        assert time.monotonic() < deadline, job
    return job


def told(receiver: WebhookReceiver, image: str) -> Received:
    """Wait for an event about this image; others may come from what an earlier test began."""
    while image not in (received := receiver.next()).body.decode():
        pass
    return received


def is_genuine(received: Received) -> bool:
    content = received.headers["fs-timestamp"].encode() + b"." + received.body
    signature = hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()
    return received.headers["fs-signature"] == signature


def test_a_job_is_started_and_ends_with_the_results_of_the_tasks_that_ran(
    sandbox: SandboxUnderTest, handle: str
) -> None:
    started = run(sandbox, handle)
    assert list(started) == ["workflow", "jobid", "sources", "status", "createdAt", "updatedAt"]
    assert (started["workflow"], started["sources"], started["status"]) == (PEOPLE, [handle], "Started")
    job = ended(sandbox, started["jobid"])
    assert job["status"] == "Finished"
    assert job["ttl"] == 172_800
    assert job["results"].keys() == {"tags_1", "safe"}
    assert job["results"]["tags_1"]["data"]["tags"]["auto"]["red"] == 100
    assert job["results"]["safe"] == {"data": {"sfw": True}}


def test_times_have_nine_decimals(sandbox: SandboxUnderTest, handle: str) -> None:
    created = run(sandbox, handle)["createdAt"]
    assert len(created) == len("2030-01-01T00:00:00.695634422Z")
    assert abs(datetime.fromisoformat(f"{created[:26]}+00:00").timestamp() - time.time()) < 60


def test_a_start_is_a_billed_call_each_time_and_a_poll_is_none(
    sandbox: SandboxUnderTest, handle: str
) -> None:
    first, second = (run(sandbox, handle)["jobid"] for _ in range(2))
    assert first != second
    status(sandbox, first)
    stats = sandbox.stats(images=True)
    assert (stats["calls"], stats["billed"], stats["cached"], stats["polls"]) == (2, 2, 0, 1)
    assert stats["images"][handle] == {"calls": 2, "billed": 2, "filename": "picture.png"}
    assert [request["task"] for request in sandbox.requests()] == [
        "run_workflow",
        "run_workflow",
        "workflow_status",
    ]


@pytest.mark.parametrize("source", ["src://photos/red.png", "{web}/red.png", '"{web}/red.png"'])
def test_a_job_may_be_about_an_external_image(sandbox: SandboxUnderTest, web: str, source: str) -> None:
    source = source.format(web=web)
    job = run(sandbox, source)
    assert job["sources"] == [source.strip('"')]
    assert ended(sandbox, job["jobid"])["results"]["safe"] == {"data": {"sfw": True}}


def test_a_signed_query_is_not_told_to_anybody(sandbox: SandboxUnderTest, web: str) -> None:
    source = f"{web}/red.png"
    signed = f"{source}?X-Amz-Signature=secret"
    job = run(sandbox, f"b64://{base64.urlsafe_b64encode(signed.encode()).decode()}")
    assert job["sources"] == [source]
    assert "secret" not in str(ended(sandbox, job["jobid"]))


def test_a_job_whose_image_cannot_be_read_fails(sandbox: SandboxUnderTest, receiver: WebhookReceiver) -> None:
    job = ended(sandbox, run(sandbox, "src://photos/broken.jpg")["jobid"])
    assert job["status"] == "Failed"
    assert job["results"].keys() == {"tags_1"}
    assert "Failed to identify" in job["results"]["tags_1"]["error"]
    assert told(receiver, job["jobid"]).event["text"]["status"] == "Failed"


@pytest.mark.parametrize(
    ("task", "source", "code"),
    [
        ("run_workflow=id:nobody", "{handle}", 400),
        ("run_workflow", "{handle}", 400),
        ("run_workflow=name:x", "{handle}", 400),
        ("cache=false/run_workflow=id:" + PEOPLE, "{handle}", 400),
        ("run_workflow=id:" + PEOPLE, UNKNOWN, 404),
        ("workflow_status=job_id:nobody", "", 404),
        ("workflow_status=id:nobody", "", 400),
    ],
)
def test_what_makes_no_sense_starts_nothing(
    sandbox: SandboxUnderTest, handle: str, task: str, source: str, code: int
) -> None:
    security = sandbox.security("convert", "runWorkflow")
    path = f"/{security}/{task}/{source.format(handle=handle)}".rstrip("/")
    assert sandbox.send(path).status == code
    assert sandbox.stats()["billed"] == 0


@pytest.mark.parametrize("call", ["convert", "runWorkflow"])
def test_both_calls_must_be_allowed(sandbox: SandboxUnderTest, handle: str, call: str) -> None:
    security = sandbox.security(call)
    assert sandbox.send(f"/{security}/run_workflow=id:{PEOPLE}/{handle}").status == 403
    assert sandbox.send(f"/{security}/workflow_status=job_id:x").status == 403


def test_a_job_takes_its_time(sandbox: SandboxUnderTest, handle: str) -> None:
    job = run(sandbox, handle, SLOW)
    assert status(sandbox, job["jobid"]) == job
    assert sandbox.stats()["jobs"]["Started"] >= 1


# --- what goes wrong on demand ----------------------------------------------------------------------------


def test_a_job_can_fail(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "job_failed", "operation": "run_workflow"})
    job = ended(sandbox, run(sandbox, handle)["jobid"])
    assert (job["status"], job["results"]) == ("failed", {})


def test_a_job_can_stay_without_an_end(
    sandbox: SandboxUnderTest, handle: str, receiver: WebhookReceiver
) -> None:
    sandbox.faults({"fault": "job_stuck", "operation": "run_workflow", "times": 1})
    stuck, other = (run(sandbox, handle)["jobid"] for _ in range(2))
    assert told(receiver, handle).event["text"]["jobid"] == other
    assert status(sandbox, stuck)["status"] == "Started"


def test_the_tags_of_a_job_can_be_odd(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "auto_null", "operation": "run_workflow"})
    results = ended(sandbox, run(sandbox, handle)["jobid"])["results"]
    assert results == {"tags_1": {"data": {"tags": {"auto": None, "user": None}}}}


def test_a_lost_answer_has_started_a_job_and_a_refusal_has_not(
    sandbox: SandboxUnderTest, handle: str, receiver: WebhookReceiver
) -> None:
    sandbox.faults(
        {"fault": "503", "operation": "run_workflow", "times": 1},
        {"fault": "reset_after", "operation": "run_workflow", "times": 1},
    )
    with pytest.raises(AssertionError):
        run(sandbox, handle)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        run(sandbox, handle)
    assert told(receiver, handle).event["text"]["sources"] == [handle]
    assert sandbox.stats()["billed"] == 1


def test_what_is_told_of_a_job_can_lack_its_id(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "no_jobid", "operation": "run_workflow"})
    assert "jobid" not in run(sandbox, handle)


# --- webhooks ---------------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_told_by_a_signed_webhook(
    sandbox: SandboxUnderTest, handle: str, receiver: WebhookReceiver
) -> None:
    job_id = run(sandbox, handle)["jobid"]
    received = told(receiver, handle)
    assert is_genuine(received)
    assert received.headers["content-type"] == "application/json"
    event = received.event
    assert list(event) == ["id", "action", "timestamp", "text"]
    assert (event["action"], event["text"]) == ("fs.workflow", status(sandbox, job_id))


def test_uploads_overwrites_and_deletions_are_told(
    sandbox: SandboxUnderTest, picture: bytes, receiver: WebhookReceiver
) -> None:
    handle = sandbox.upload(picture, filename="a b.png".replace(" ", "%20"))
    for call, method in (("write", "POST"), ("remove", "DELETE")):
        policy, signature = sandbox.credentials(call)
        sandbox.send(f"/api/file/{handle}?policy={policy}&signature={signature}", method, picture)
    upload, overwrite, delete = (told(receiver, handle).event for _ in range(3))
    events = {event["action"]: event["text"] for event in (upload, overwrite, delete)}
    assert events.keys() == {"fp.upload", "fp.overwrite", "fp.delete"}
    assert {text["url"] for text in events.values()} == {f"{sandbox.url}/{handle}"}
    assert events["fp.upload"].keys() == {
        *("container", "url", "filename", "client", "key", "type", "status", "size")
    }
    assert events["fp.overwrite"].keys() == {"mimetype", "url", "isWriteable", "filename", "client", "size"}


def test_a_receiver_that_fails_is_tried_again(
    sandbox: SandboxUnderTest, handle: str, receiver: WebhookReceiver
) -> None:
    receiver.statuses[handle] = [500, 202]
    run(sandbox, handle)
    first, second, third = (told(receiver, handle) for _ in range(3))
    assert first.body == second.body == third.body
    assert settled(sandbox, handle) == {"answers": [500, 202, 200], "state": "delivered"}


def settled(sandbox: SandboxUnderTest, image: str) -> dict[str, Any]:
    """Ask until the event about this image has arrived or is given up."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for delivery in sandbox.send("/_sandbox/webhooks").json["deliveries"]:
            if delivery["image"] == image and delivery["state"] != "pending":
                return {name: delivery[name] for name in ("answers", "state")}
    raise AssertionError(f"nothing became of the event about {image}")


def test_a_receiver_that_is_not_there_is_given_up(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.webhooks({"url": "http://127.0.0.1:1/hook", "secret": SECRET})
    run(sandbox, handle)
    assert settled(sandbox, handle) == {"answers": [0, 0, 0, 0], "state": "undelivered"}
    sandbox.webhooks()


def test_webhooks_go_wrong_on_demand(
    sandbox: SandboxUnderTest, handle: str, receiver: WebhookReceiver
) -> None:
    sandbox.faults({"fault": "tampered", "operation": "webhook", "images": [handle]})
    receiver.statuses[handle] = [401]
    run(sandbox, handle)
    assert [is_genuine(told(receiver, handle)) for _ in range(2)] == [False, True]


def test_receivers_are_shown_without_their_secrets(
    sandbox: SandboxUnderTest, receiver: WebhookReceiver
) -> None:
    shown = sandbox.send("/_sandbox/webhooks")
    assert shown.json["webhooks"] == [{"url": receiver.url, "actions": []}]
    assert shown.json["webhook_retries"] == [0, 0, 0]
    assert SECRET not in shown.text


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b'{"unknown": 1}',
        b'{"webhooks": [{"url": 1}]}',
        b'{"webhook_retries": ["x"]}',
        b'{"webhooks": [{"url": "x", "secret": "y"}]}',
    ],
)
def test_nonsense_changes_nothing(sandbox: SandboxUnderTest, receiver: WebhookReceiver, body: bytes) -> None:
    assert sandbox.send("/_sandbox/webhooks", "POST", body).status == 400
    assert sandbox.send("/_sandbox/webhooks").json["webhooks"] == [{"url": receiver.url, "actions": []}]


def test_an_upload_can_start_a_job_and_words_between_start_and_end_can_be_any(
    tmp_path: Path, picture: bytes
) -> None:
    (tmp_path / "workflows.toml").write_text(ON_UPLOAD)
    with receiving_webhooks() as receiver:
        hook = {"url": receiver.url, "secret": SECRET, "actions": ["fs.workflow"]}
        with running_sandbox(workflows=str(tmp_path / "workflows.toml"), webhooks=[hook]) as sandbox:
            handle = sandbox.upload(picture)
            text = receiver.next().event["text"]
            assert (text["sources"], text["workflow"]) == ([handle], UPLOADED)
            assert text["results"]["caption"]["data"]["caption"].endswith("in red")
