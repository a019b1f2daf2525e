"""Whatever is sent: no server error, an answer as described, and no effect of what is not signed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import schemathesis
from fakes.files import MemoryFiles
from fakes.webhook_receiver import ReceiverUnderTest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagmill.worker.webhooks.app import create_app

stranger = ReceiverUnderTest(MemoryFiles())
schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(stranger.receiver))
often = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@schema.parametrize()
@often
def test_no_stranger_breaks_anything_or_leaves_a_trace(case: schemathesis.Case[Any]) -> None:
    if "endpoint" in case.path_parameters:
        case.path_parameters["endpoint"] = "main"  # no name that is made up exists
    response = case.call()
    assert response.status_code < 500
    case.validate_response(response)
    assert stranger.told == []
    assert [name for name in stranger.files.contents if name.startswith("webhooks/")] == []


def dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a number beyond 64 bits, or half a character
        return repr(value).encode(errors="surrogatepass")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("url", "workflow", "jobid", "createdAt", "results", "status"), JSON)
    | {"sources": JSON | st.lists(st.text(), max_size=2)},
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "action": JSON | st.sampled_from(["fs.workflow", "fp.upload", "fp.overwrite", "fp.delete"]),
        "timestamp": JSON,
        "text": JSON | TEXTS,
    },
)


@given(st.binary() | (JSON | EVENTS).map(dumps))
@often
def test_all_that_is_signed_is_kept_and_can_be_read_again(body: bytes) -> None:
    known = ReceiverUnderTest(MemoryFiles())
    assert asyncio.run(send_twice(known, body)) == [200, 200]
    assert len(known.events()) == len(known.told) <= 1
    assert known.events() or known.quarantined()
    for event in known.told:
        assert isinstance(event.job, str) == (event.action == "fs.workflow")


async def send_twice(receiver: ReceiverUnderTest, body: bytes) -> list[int]:
    async with receiver.client:
        return [(await receiver.send(body)).status_code for _ in range(2)]
