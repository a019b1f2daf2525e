"""Many signed webhooks at once, and what became of each."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tagmill.sandbox.ledger import NO_ANSWER
from tagmill.sandbox.webhooks import Letter, Post, to_body

SECRET = "webhook-secret-of-a-test"


@dataclass(frozen=True, slots=True)
class Sent:
    id: int
    status: int  #: 0: no answer
    seconds: float


def letters(first: int) -> Iterator[tuple[int, Letter]]:
    """Results of workflow jobs, each of another one."""
    for number in itertools.count(first):
        results = {f"tags_{number}": {"data": {"tags": {"auto": {"sky": 97, "sea": 80}, "user": None}}}}
        text = {
            "workflow": "11111111-2222-4333-8444-555555555555",
            "jobid": f"job-{number}",
            "sources": [f"AbCdEfGhIj{number:010d}"],
            "results": results,
            "status": "Finished",
        }
        event = {"id": number, "action": "fs.workflow", "timestamp": int(time.time()), "text": text}
        yield number, Letter.signed(to_body(event), SECRET, int(time.time()))


async def storm(
    url: str,
    lanes: int,
    go_on: Callable[[list[Sent]], bool],
    *,
    per_second: float | None = None,
    first: int = 1,
) -> list[Sent]:
    """Send from so many lanes while `go_on` says so of what was sent, or until nobody answers any more.

    `per_second` None: as fast as the answers come.
    """
    sent: list[Sent] = []
    coming, began = letters(first), time.perf_counter()

    async def lane(post: Post) -> None:
        while go_on(sent):
            number, letter = next(coming)
            if per_second is not None:
                await asyncio.sleep(began + (number - first) / per_second - time.perf_counter())
            at = time.perf_counter()
            status = await post(url, letter)
            sent.append(Sent(number, status, time.perf_counter() - at))
            if status == NO_ANSWER:
                return

    async with Post() as post:
        await asyncio.gather(*(lane(post) for _ in range(lanes)))
    return sent
