"""Signatures as receivers check them, and every way in which an event arrives or does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import Any

import pytest

from tagmill.sandbox.background import Background
from tagmill.sandbox.deliveries import RETRY_SECONDS, Deliveries
from tagmill.sandbox.faults import FaultRule, Faults
from tagmill.sandbox.webhooks import Letter, Receiver, to_body

SECRET = "example-webhook-secret-not-real"
NOW = 1_893_456_000
URL = "http://receiver.example/hook"
RESULTS = {"tags_1": {"data": {"tags": {"auto": {"sky": 97}, "user": None}}}}
TAGS = {"jobid": "j", "ttl": 9, "results": RESULTS}
DELETED = (
    b'{"id":2,"action":"fp.delete","timestamp":1893456000,'
    b'"text":{"url":"https://cdn.filestackcontent.com/AbCdEfGhIjKlMnOpQr01"}}'
)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (DELETED, "e2bb96bce533d3870ea0f6b3b01820c6f5096555f70637cc541f688177d9f790"),
        (
            '{"id":3,"note":"café"}'.encode(),
            "11ba71689ad6378e0a9567a5ac08630df21112f2043a7d50dd48cbbd04b794dd",
        ),
    ],
)
def test_signatures_are_those_of_the_official_libraries(body: bytes, signature: str) -> None:
    headers = Letter.signed(body, SECRET, NOW).headers
    assert (headers["FS-Signature"], headers["FS-Timestamp"]) == (signature, "1893456000")


def test_a_body_is_compact_and_plain() -> None:
    assert to_body({"id": 3, "note": "café"}) == '{"id":3,"note":"café"}'.encode()


# --- deliveries, on a clock that costs nothing ------------------------------------------------------------


class Wire:
    """A receiver that answers as it is told, and a clock that stands still but for pauses."""

    def __init__(self, statuses: Iterator[int]) -> None:
        self.statuses = statuses
        self.letters: list[Letter] = []
        self.pauses: list[float] = []
        self.now = float(NOW)

    async def post(self, url: str, letter: Letter) -> int:
        assert url == URL
        self.letters.append(letter)
        return next(self.statuses)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def events(self) -> list[Any]:
        return [json.loads(letter.body) for letter in self.letters]

    def genuine(self) -> list[bool]:
        return [
            letter.headers == Letter.signed(letter.body, SECRET, int(letter.headers["FS-Timestamp"])).headers
            for letter in self.letters
        ]


@asynccontextmanager
async def delivering(
    wire: Wire, rules: Sequence[FaultRule] = (), actions: tuple[str, ...] = ()
) -> AsyncIterator[Deliveries]:
    async with Background() as background:
        yield Deliveries(
            [Receiver(URL, SECRET, actions)],
            RETRY_SECONDS,
            Faults(rules),
            background,
            wire.post,
            lambda: wire.now,
            wire.sleep,
        )


async def until(fact: Callable[[], object]) -> None:
    """Let the other tasks go on; none of them waits for real."""
    for _ in range(1_000):
        if fact():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not happen")


async def delivered(
    *statuses: int, fault: dict[str, Any] | None = None, text: Any = None
) -> tuple[Wire, dict[str, Any]]:
    """Emit one event; return what came over the wire, and what is known of it then."""
    wire = Wire(chain(statuses, repeat(200)))
    rules = [FaultRule.from_json({"operation": "webhook", **fault})] if fault else []
    async with delivering(wire, rules) as deliveries:
        deliveries.emit("fs.workflow", "handle", TAGS if text is None else text)
        await until(lambda: not deliveries._background._tasks)
        (delivery,) = deliveries.record
    return wire, delivery.to_json()


async def test_an_event_is_signed_and_arrives_once() -> None:
    wire, delivery = await delivered()
    assert wire.events() == [
        {"id": NOW * 1_000, "action": "fs.workflow", "timestamp": NOW, "text": TAGS},
    ]
    assert wire.genuine() == [True]
    assert (delivery["answers"], delivery["state"], delivery["url"]) == ([200], "delivered", URL)
    assert SECRET not in repr(delivery)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_these_answers_are_successes(status: int) -> None:
    wire, _ = await delivered(status)
    assert (len(wire.letters), wire.pauses) == (1, [])


@pytest.mark.parametrize("status", [0, 202, 301, 400, 401, 500])
async def test_any_other_answer_is_followed_by_three_more_tries_with_the_same_letter(status: int) -> None:
    wire, delivery = await delivered(*[status] * 4)
    assert wire.pauses == [300, 1_800, 43_200]
    assert len({(letter.body, letter.headers["FS-Signature"]) for letter in wire.letters}) == 1
    assert (delivery["answers"], delivery["state"]) == ([status] * 4, "undelivered")


async def test_no_further_try_follows_a_success() -> None:
    wire, delivery = await delivered(500, 204)
    assert (wire.pauses, delivery["answers"], delivery["state"]) == ([300], [500, 204], "delivered")


async def test_a_receiver_gets_the_actions_that_it_wants() -> None:
    wire = Wire(repeat(200))
    async with delivering(wire, actions=("fp.upload",)) as deliveries:
        deliveries.emit("fs.workflow", "h", {})
        deliveries.emit("fp.upload", "h", {})
        await until(lambda: wire.letters)
    assert [event["action"] for event in wire.events()] == ["fp.upload"]


async def test_ids_grow_over_a_restart() -> None:
    before, _ = await delivered()
    wire = Wire(repeat(200))
    wire.now += 1
    async with delivering(wire) as deliveries:
        deliveries.emit("fp.delete", "h", {})
        deliveries.emit("fp.delete", "h", {})
        await until(lambda: len(wire.letters) == 2)
    ids = [event["id"] for event in (*before.events(), *wire.events())]
    assert ids == sorted(set(ids))


async def test_a_lost_event_never_arrives() -> None:
    wire, delivery = await delivered(fault={"fault": "lost"})
    assert (wire.letters, delivery["answers"], delivery["state"]) == ([], [], "lost")


async def test_a_doubled_event_arrives_twice_as_it_is() -> None:
    wire, _ = await delivered(fault={"fault": "doubled"})
    assert len(wire.letters) == 2
    assert wire.letters[0] == wire.letters[1]


async def test_a_resigned_event_arrives_again_with_another_signature() -> None:
    wire, _ = await delivered(fault={"fault": "resigned"})
    first, again = wire.letters
    assert first.body == again.body
    assert first.headers["FS-Signature"] != again.headers["FS-Signature"]
    assert wire.genuine() == [True, True]


async def test_a_late_event_arrives_after_its_time() -> None:
    wire, _ = await delivered(fault={"fault": "late", "seconds": 7_200})
    assert (wire.pauses, len(wire.letters)) == ([7_200], 1)
    assert wire.letters[0].headers["FS-Timestamp"] == str(NOW + 7_200)


async def test_a_tampered_event_is_no_longer_what_was_signed_and_the_retry_is() -> None:
    wire, delivery = await delivered(401, fault={"fault": "tampered"})
    assert wire.genuine() == [False, True]
    altered, right = wire.events()
    assert altered["text"]["results"]["tags_1"]["data"]["tags"]["auto"] == {"tampered": 100}
    assert right["text"] == TAGS
    assert delivery["state"] == "delivered"


@pytest.mark.parametrize(("fault", "missing"), [("no_jobid", "jobid"), ("no_ttl", "ttl")])
async def test_fields_of_a_job_may_be_missing(fault: str, missing: str) -> None:
    wire, _ = await delivered(fault={"fault": fault})
    (event,) = wire.events()
    assert TAGS.keys() - event["text"].keys() == {missing}
    assert wire.genuine() == [True]


async def test_a_reordered_event_arrives_after_a_later_one() -> None:
    wire = Wire(repeat(200))
    rule = FaultRule.from_json({"fault": "reordered", "operation": "webhook", "images": ["early"]})
    async with delivering(wire, [rule]) as deliveries:
        deliveries.emit("fp.upload", "early", {"number": 1})
        deliveries.emit("fp.upload", "late", {"number": 2})
        await until(lambda: len(wire.letters) == 2)
    assert [event["text"]["number"] for event in wire.events()] == [2, 1]


async def test_a_reordered_event_does_not_wait_for_ever() -> None:
    wire, delivery = await delivered(fault={"fault": "reordered", "seconds": 0})
    assert (len(wire.letters), delivery["state"]) == (1, "delivered")


async def test_what_is_on_its_way_ends_with_the_server() -> None:
    wire = Wire(repeat(500))
    async with Background() as background:
        deliveries = Deliveries(
            [Receiver(URL, SECRET)], [3_600], Faults(), background, wire.post, lambda: wire.now
        )
        deliveries.emit("fp.delete", "h", {})
        await until(lambda: wire.letters)
    assert deliveries.states() == {"pending": 1}
