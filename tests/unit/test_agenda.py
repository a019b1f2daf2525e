"""The agenda hands out every item, retries when due, and lets no lane wait for ever."""

import asyncio

from tagmill.worker.agenda import Agenda


async def drain(agenda: Agenda[str]) -> list[str]:
    seen = []
    while (item := await agenda.next()) is not None:
        seen.append(item)
        agenda.done()
    return seen


async def test_items_come_in_order_and_then_none() -> None:
    assert await drain(Agenda(["a", "b", "c"])) == ["a", "b", "c"]


async def test_a_retry_lets_others_go_first() -> None:
    agenda = Agenda(["a", "b"])
    first = await agenda.next()
    assert first == "a"
    agenda.again("a", 0.01)
    assert await drain(agenda) == ["b", "a"]


async def test_idle_lanes_wait_for_work_that_may_come_back() -> None:
    agenda = Agenda(["a"])
    assert await agenda.next() == "a"
    idle = asyncio.create_task(agenda.next())
    await asyncio.sleep(0)
    assert not idle.done()
    agenda.again("a", 0)
    assert await idle == "a"


async def test_all_lanes_end_together() -> None:
    agenda = Agenda(["a"])
    assert await agenda.next() == "a"
    idle = [asyncio.create_task(agenda.next()) for _ in range(5)]
    await asyncio.sleep(0)
    agenda.done()
    assert await asyncio.gather(*idle) == [None] * 5


async def test_a_closed_agenda_hands_out_nothing_more() -> None:
    agenda = Agenda(["a", "b"])
    assert await agenda.next() == "a"
    agenda.close()
    agenda.again("a", 5)
    assert await agenda.next() is None
    assert agenda.idle_seconds() == 0


async def test_idle_seconds_tell_how_far_the_next_retry_is() -> None:
    clock = [100.0]
    agenda = Agenda(["a"], clock=lambda: clock[0])
    assert await agenda.next() == "a"
    agenda.again("a", 20)
    assert agenda.idle_seconds() == 20
    clock[0] = 125
    assert await agenda.next() == "a"
