"""The official Python SDK takes the sandbox for the service: https://github.com/filestack/filestack-python."""

from __future__ import annotations

from pathlib import Path

import filestack
import pytest
from filestack.helpers import verify_webhook_signature
from servers.sandbox import FAR_FUTURE, SandboxUnderTest
from servers.webhooks import receiving_webhooks

SECRET = "example-webhook-secret-not-real"


@pytest.fixture
def link(sandbox: SandboxUnderTest, handle: str, monkeypatch: pytest.MonkeyPatch) -> filestack.Filelink:
    """The SDK's idea of an upload, with leave to do anything."""
    monkeypatch.setattr(filestack.CFG, "CDN_URL", sandbox.url)
    monkeypatch.setattr(filestack.CFG, "API_URL", sandbox.api_url)
    calls = ["convert", "read", "stat", "write", "remove"]
    security = filestack.Security({"call": calls, "expiry": FAR_FUTURE}, sandbox.secret)
    return filestack.Filelink(handle, apikey=sandbox.key, security=security)


def test_it_gets_tags_and_what_other_tasks_answer(link: filestack.Filelink) -> None:
    assert link.tags()["tags"]["auto"]["red"] == 100
    assert link.sfw() == {"sfw": True}
    assert link.ocr() == {"document": {"text_areas": []}}


def test_it_gets_tags_of_an_external_image(
    link: filestack.Filelink, sandbox: SandboxUnderTest, web: str
) -> None:
    external = filestack.Client(sandbox.key, security=link.security).transform_external(f"{web}/red.png")
    assert external.tags()["tags"]["auto"]["red"] == 100


def test_it_reads_overwrites_and_deletes_a_file(
    link: filestack.Filelink, picture: bytes, folder: Path
) -> None:
    assert link.get_content() == picture
    link.overwrite(filepath=str(folder / "broken.jpg"))
    assert link.get_content() == (folder / "broken.jpg").read_bytes()
    link.delete()
    with pytest.raises(Exception, match="File not found"):
        link.get_content()


def test_it_accepts_the_signature_of_a_webhook_and_refuses_a_tampered_one(
    sandbox: SandboxUnderTest, picture: bytes
) -> None:
    with receiving_webhooks() as receiver:
        sandbox.webhooks({"url": receiver.url, "secret": SECRET})
        sandbox.faults({"fault": "tampered", "operation": "webhook", "times": 1})
        sandbox.upload(picture)
        sandbox.upload(picture)
        verified = [
            verify_webhook_signature(SECRET, received.body, dict(received.headers))[0]
            for received in (receiver.next(), receiver.next())
        ]
        sandbox.webhooks()
    assert sorted(verified) == [False, True]
