"""What is answered, and that nothing is thanked for before it is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.files import MemoryFiles
from fakes.webhook_receiver import NEXT_SECRET, NOW, SECRET, URL, ReceiverUnderTest, an_event
from openapi_spec_validator import validate

from tagmill.sandbox.webhooks import Letter, to_body
from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.webhooks.app import MAX_BODY_BYTES, describe

HOOK = "/webhooks/filestack/main"
HANDLE = "AbCdEfGhIjKlMnOpQr01"
RESULT = {"workflow": "w", "jobid": "j", "sources": [HANDLE], "results": {}, "status": "Finished"}


class BrokenFiles(MemoryFiles):
    """A place that is away while `broken`."""

    broken = True

    def create(self, name: str, data: bytes) -> bool:
        if self.broken:
            raise RunStoreUnavailableError("run store memory: it is away")
        return super().create(name, data)


async def test_a_signed_event_is_kept_and_whoever_waits_is_told(receiver: ReceiverUnderTest) -> None:
    answer = await receiver.send(an_event(7))
    assert (answer.status_code, answer.json()) == (200, {"status": "received"})
    (kept,) = receiver.events()
    assert (kept.endpoint, kept.id, kept.action, kept.handle) == ("main", 7, "fp.upload", HANDLE)
    assert kept.received_at == "2030-01-01T00:00:00.000Z"
    assert receiver.told == [kept]


@pytest.mark.parametrize("secret", [SECRET, NEXT_SECRET])
async def test_names_of_headers_are_written_as_one_likes(receiver: ReceiverUnderTest, secret: str) -> None:
    letter = Letter.signed(to_body(an_event()), secret, NOW)
    headers = {name.upper(): value for name, value in letter.headers.items()}
    assert (await receiver.client.post(HOOK, content=letter.body, headers=headers)).status_code == 200


async def test_a_stranger_changes_nothing(receiver: ReceiverUnderTest) -> None:
    letter = Letter.signed(to_body(an_event()), SECRET, NOW)
    tampered = Letter.signed(to_body(an_event(2, "fs.workflow", **RESULT)), SECRET, NOW).tampered()
    attempts: list[tuple[bytes, dict[str, str]]] = [
        (letter.body, {}),
        (letter.body, dict(Letter.signed(letter.body, "a-wrong-secret", NOW).headers)),
        (letter.body + b" ", dict(letter.headers)),
        (tampered.body, dict(tampered.headers)),
    ]
    for body, headers in attempts:
        answer = await receiver.client.post(HOOK, content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (
            401,
            {"error": "the signature is missing or wrong"},
        )
    assert (receiver.files.contents, receiver.told) == ({}, [])


async def test_an_unknown_endpoint_is_answered_like_any_unknown_path(receiver: ReceiverUnderTest) -> None:
    letter = Letter.signed(to_body(an_event()), SECRET, NOW)
    answers = [
        await receiver.client.post(path, content=letter.body, headers=dict(letter.headers))
        for path in ("/webhooks/filestack/unknown", "/no/such/path")
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, '{"error":"Not Found"}')}
    assert answers[0].headers == answers[1].headers


async def test_a_body_may_have_five_megabytes(receiver: ReceiverUnderTest) -> None:
    filling = MAX_BODY_BYTES - len(to_body(an_event(1, url=URL, note="")))
    largest = to_body(an_event(1, url=URL, note="x" * filling))
    assert (await receiver.send(largest)).status_code == 200
    assert (await receiver.send(largest + b" ")).status_code == 413
    assert len(receiver.events()) == 1


async def test_a_body_without_an_end_is_cut_off_at_the_limit(receiver: ReceiverUnderTest) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    answer = await receiver.client.post(HOOK, content=endless(), headers={"Content-Length": "10"})
    assert answer.status_code == 413
    assert sent <= MAX_BODY_BYTES + 3 * 65_536


# --- durable before it is thanked for ---------------------------------------------------------------------


async def test_while_the_run_store_is_away_nothing_is_thanked_for() -> None:
    files = BrokenFiles()
    receiver = ReceiverUnderTest(files)
    assert (await receiver.client.get("/readyz")).status_code == 503
    refused = await receiver.send(an_event())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert receiver.told == []
    files.broken = False
    assert (await receiver.client.get("/readyz")).json() == {"status": "ready"}
    assert (await receiver.send(an_event())).status_code == 200
    assert [event.id for event in receiver.events()] == [1]
    files.broken = True
    assert (await receiver.send(an_event(2))).status_code == 503
    assert (await receiver.client.get("/readyz")).status_code == 503


async def test_it_says_that_it_lives_whatever_the_run_store_does() -> None:
    receiver = ReceiverUnderTest(BrokenFiles())
    assert (await receiver.client.get("/healthz")).json() == {"status": "alive"}


async def test_an_answer_waits_until_the_event_is_kept() -> None:
    go_on = threading.Event()

    class SlowFiles(MemoryFiles):
        def create(self, name: str, data: bytes) -> bool:
            go_on.wait()
            return super().create(name, data)

    receiver = ReceiverUnderTest(SlowFiles())
    answers = asyncio.gather(*(receiver.send(an_event(number)) for number in range(20)))
    done, _ = await asyncio.wait([answers], timeout=0.05)
    assert not done
    go_on.set()
    assert {answer.status_code for answer in await answers} == {200}
    assert len(receiver.events()) == 20


async def test_events_that_come_together_share_files(receiver: ReceiverUnderTest) -> None:
    await asyncio.gather(*(receiver.send(an_event(number)) for number in range(50)))
    assert len(receiver.events()) == 50
    assert len(receiver.files.contents) <= 5


# --- again ------------------------------------------------------------------------------------------------


async def test_what_comes_again_is_thanked_for_and_kept_once(receiver: ReceiverUnderTest) -> None:
    await asyncio.gather(receiver.send(an_event()), receiver.send(an_event()))
    again = await receiver.send(an_event(), secret=NEXT_SECRET)
    assert (again.status_code, len(receiver.events()), len(receiver.told)) == (200, 1, 1)


async def test_ids_are_those_of_an_endpoint(receiver: ReceiverUnderTest) -> None:
    for endpoint in ("main", "other"):
        await receiver.send(an_event(1), endpoint)
    await receiver.send(an_event(1) | {"id": "1"})
    assert len(receiver.events()) == 3


async def test_a_job_is_told_of_once_whatever_the_id(receiver: ReceiverUnderTest) -> None:
    early = {name: value for name, value in RESULT.items() if name != "jobid"} | {"createdAt": "2019"}
    for number, text in enumerate([RESULT, RESULT, early, early, early | {"createdAt": "2020"}]):
        await receiver.send(an_event(number, "fs.workflow", **text))
    assert [event.id for event in receiver.events()] == [0, 2, 4]


async def test_without_job_and_time_a_result_is_known_by_its_event(receiver: ReceiverUnderTest) -> None:
    bare = {name: value for name, value in RESULT.items() if name not in {"jobid", "createdAt"}}
    for number in (1, 2, 2):
        await receiver.send(an_event(number, "fs.workflow", **bare))
    assert [event.id for event in receiver.events()] == [1, 2]


# --- what cannot be understood ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"id": 1', "not_json"),
        (b'"\\ud800"', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        ({"action": "fp.upload", "text": {}}, "no_id"),
        (an_event() | {"id": True}, "no_id"),
        (an_event() | {"id": ""}, "no_id"),
        (an_event() | {"id": "a\x1b[2J"}, "no_id"),
        (an_event() | {"id": 2**64}, "no_id"),
        (an_event() | {"id": 1.5}, "no_id"),
        (an_event() | {"action": None}, "no_action"),
        (an_event() | {"action": "x" * 201}, "no_action"),
        (an_event() | {"action": "x\n"}, "no_action"),
        (an_event() | {"text": "text"}, "no_text"),
        (an_event(url="https://cdn.filestackcontent.com/"), "no_handle"),
        (an_event(1, "fp.delete", url=7), "no_handle"),
        (an_event(1, "fs.workflow", **RESULT | {"workflow": None}), "no_workflow"),
        (an_event(1, "fs.workflow", **RESULT | {"sources": []}), "no_source"),
        (an_event(1, "fs.workflow", **RESULT | {"sources": HANDLE}), "no_source"),
        (an_event(1, "fs.workflow", **RESULT | {"sources": [7]}), "no_source"),
        (an_event(1, "fs.workflow", **RESULT | {"sources": [HANDLE, HANDLE]}), "several_sources"),
    ],
)
async def test_signed_nonsense_is_set_aside_as_sending_it_again_would_not_help(
    receiver: ReceiverUnderTest, body: Any, reason: str
) -> None:
    assert (await receiver.send(body)).status_code == 200
    (found,) = receiver.quarantined()
    assert (found.endpoint, found.reason) == ("main", reason)
    assert (receiver.events(), receiver.told) == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}?policy=abc",
        f"{URL}#top",
        f"{URL}/",
        f"{URL}+jpg",
        f"https://www.filestackapi.com/api/file/{HANDLE}",
        f"https://cdn.filestackcontent.com/api/file/{HANDLE}",
        f"/resize=w:10/{HANDLE}",
    ],
)
async def test_a_handle_is_the_last_segment_of_an_address(receiver: ReceiverUnderTest, url: str) -> None:
    await receiver.send(an_event(url=url))
    (kept,) = receiver.events()
    assert kept.handle == HANDLE


async def test_any_other_action_is_kept(receiver: ReceiverUnderTest) -> None:
    await receiver.send(an_event(1, "fp.something", anything=[1, {"a": None}]))
    assert [event.action for event in receiver.events()] == ["fp.something"]


async def test_no_secret_and_no_signed_address_is_kept(receiver: ReceiverUnderTest) -> None:
    signed = "https://b.example/a.jpg?X-Amz-Signature=0123456789abcdef0123456789abcdef"
    await receiver.send(an_event(1, "fs.workflow", **RESULT | {"sources": [signed], "note": SECRET}))
    await receiver.send(f"{SECRET} {signed}".encode())
    (kept,), (nonsense,) = receiver.events(), receiver.quarantined()
    assert kept.source == "https://b.example/a.jpg"
    for text in (str(kept), str(nonsense)):
        assert SECRET not in text
        assert "0123456789abcdef" not in text


# --- the description --------------------------------------------------------------------------------------


async def test_it_describes_itself(receiver: ReceiverUnderTest) -> None:
    described = (await receiver.client.get("/openapi.json")).json()
    assert described == describe()
    validate(described)
