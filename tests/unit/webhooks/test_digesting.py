"""What becomes of events that are kept: once each, by whoever leads, whatever fails in between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.files import Died, MemoryFiles, MortalFiles
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.engine_config import FILESTACK_WORKFLOW, WORKFLOW_ID
from tagmill.worker.models import Chunk, Json
from tagmill.worker.state.entries import Entry, Job
from tagmill.worker.state.leader import Leader
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.quarantine import Quarantine
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.started import Started
from tagmill.worker.store.webhook_events import Event, EventWriter
from tagmill.worker.webhooks.digesting import Digester
from tagmill.worker.webhooks.foreign import ForeignResults
from tagmill.worker.webhooks.memory import Memory

NOW = datetime(2026, 11, 25, 0, 30, tzinfo=UTC)
HANDLE = "AbCdEfGhIjKlMnOpQr01"
WORKFLOW = "11111111-2222-4333-8444-555555555555"
RUN = "events-workflow-11111111-20261125t00z"
TAGS = {"tags_1": {"data": {"tags": {"auto": {"sky": 97}, "user": None}}}}


class Receivers:
    """Some that share a run store and a clock."""

    def __init__(self, files: MemoryFiles | None = None) -> None:
        self.files = files if files is not None else MemoryFiles()
        self.now = NOW
        self.writer = EventWriter(self.files)
        self.received = Memory()

    def digester(self) -> Digester:
        return Digester(
            self.files,
            self.received,
            ForeignResults(self.files, embedded=False, now=lambda: self.now),
            jobs=None,
            leader=Leader(None, ""),
            grace_seconds=60,
            now=lambda: self.now,
        )

    def receive(self, *events: Event) -> None:
        self.writer.write(events, self.now)

    async def digest(self) -> None:
        """One receiver, started anew, when the grace is over."""
        self.now += timedelta(seconds=60)
        while await self.digester().step():
            pass

    def rows(self, run_id: str = RUN) -> list[Json]:
        plan = Plan(self.files, run_id, 0)
        lines = [line for shard in plan.shards() for line in plan.lines(shard)]
        return [json.loads(line) for line in lines]

    def reasons(self) -> list[str]:
        return [one.reason for one in Quarantine(self.files)]


def an_event(number: int, action: str, **text: Any) -> Event:
    return Event("main", f"{NOW:%Y-%m-%dT%H:%M:%SZ}", number, action, text)


def a_result(number: int = 1, job: str | None = "job-1", **text: Any) -> Event:
    known: Json = {} if job is None else {"jobid": job}
    whole = {"workflow": WORKFLOW, "sources": [HANDLE], "results": TAGS, "status": "Finished"}
    return an_event(number, "fs.workflow", **{**known, **whole, **text})


async def test_the_result_of_a_job_that_nobody_started_is_a_row_of_the_hours_run() -> None:
    receivers = Receivers()
    receivers.receive(a_result())
    await receivers.digest()
    (row,) = receivers.rows()
    assert (row["id"], row["tags"], row["results"]) == (
        f"filestack:{HANDLE}",
        {"auto": {"sky": 97}, "user": None},
        TAGS,
    )
    assert (row["calls"], row["engine"], row["tagged_at"]) == (
        0,
        FILESTACK_WORKFLOW,
        "2026-11-25T00:30:00Z",
    )
    spec = Runs(receivers.files).read(RUN)
    assert (spec.engine_options, spec.write_back) == ({WORKFLOW_ID: WORKFLOW}, ())


async def test_nothing_is_done_before_the_grace_is_over() -> None:
    receivers = Receivers()
    receivers.receive(a_result())
    receivers.now += timedelta(seconds=59)
    assert not await receivers.digester().step()
    assert receivers.rows() == []


async def test_a_receiver_that_is_busy_holds_up_no_other() -> None:
    receivers = Receivers()
    busy, quiet = sorted((EventWriter(receivers.files) for _ in range(2)), key=lambda one: one.name)
    quiet.write([a_result(1, "job-1", sources=[f"{HANDLE}1"])], NOW)
    young = replace(a_result(2, "job-2", sources=[f"{HANDLE}2"]), received_at="2026-11-25T00:31:00Z")
    busy.write([young], NOW)
    for rows in (1, 2):
        await receivers.digest()
        assert len(receivers.rows()) == rows


async def test_what_is_there_twice_is_dealt_with_once() -> None:
    receivers = Receivers()
    receivers.receive(a_result(), a_result())
    receivers.receive(a_result(2))
    await receivers.digest()
    receivers.receive(a_result(3))
    await receivers.digest()
    assert len(receivers.rows()) == 1


async def test_an_event_is_known_again_for_a_week_and_the_place_for_ever() -> None:
    receivers = Receivers()
    receivers.receive(a_result())
    await receivers.digest()
    receivers.now += timedelta(days=6)
    receivers.receive(a_result(2))
    receivers.receive(a_result(3, "job-2"))
    await receivers.digest()
    later = RUN.replace("20261125t00z", "20261201t00z")
    assert len(receivers.rows(later)) == 1
    receivers.now += timedelta(days=30)
    await receivers.digest()
    assert len(list(Runs(receivers.files).ids())) == 2


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("written", [True, False])
async def test_a_death_at_any_write_neither_loses_nor_doubles_a_row(nth: int, *, written: bool) -> None:
    files = MortalFiles()
    receivers = Receivers(files)
    receivers.receive(a_result(), a_result(2, "job-2"), an_event(3, "fp.delete", url=HANDLE))
    files.die_at(nth, written=written)
    with pytest.raises(Died):
        await receivers.digest()
    files.die_at(0, written=False)
    await receivers.digest()
    assert len(receivers.rows()) == 2


@pytest.mark.parametrize(("job_id", "told_id"), [("job-1", "job-1"), (None, "job-1"), ("job-1", None)])
async def test_a_job_of_a_run_is_its_own_also_when_its_id_is_lost_or_not_told(
    job_id: str | None, told_id: str | None
) -> None:
    receivers = Receivers()
    options = {WORKFLOW_ID: WORKFLOW}
    spec = RunSpec("a-run", NOW.isoformat(), {}, FILESTACK_WORKFLOW, (), engine_options=options)
    Runs(receivers.files).create(spec)
    entry = Entry(calls=1, job=Job(f"{HANDLE}?signed", "handle", 0.0, id=job_id))
    Started(receivers.files, Chunk("a-run", 0, 0, 0, 10)).keep(0, {3: entry}, {})
    receivers.receive(a_result(job=told_id), a_result(2, "job-2", sources=[HANDLE[::-1]]))
    await receivers.digest()
    assert [row["id"] for row in receivers.rows()] == [f"filestack:{HANDLE[::-1]}"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ({"workflow": "people"}, "no_workflow"),
        ({"sources": ["https://images.example/a.jpg"]}, "no_handle"),
        ({"status": "Failed", "results": {}}, "no_tags"),
        ({"results": {"safe": {"data": {"sfw": True}}}}, "no_tags"),
        ({"results": 7}, "no_tags"),
        ({"status": "InProgress"}, "not_finished"),
    ],
)
async def test_what_makes_no_row_is_set_aside_once(text: Json, reason: str) -> None:
    receivers = Receivers()
    receivers.receive(a_result(**text))
    await receivers.digest()
    receivers.receive(a_result(**text))
    await receivers.digest()
    assert receivers.reasons() == [reason]
    assert list(Runs(receivers.files).ids()) == []


async def test_a_deleted_handle_is_marked() -> None:
    receivers = Receivers()
    receivers.receive(an_event(1, "fp.delete", url=f"https://cdn.filestackcontent.com/{HANDLE}"))
    await receivers.digest()
    assert f"webhooks/deleted/{HANDLE}" in receivers.files.contents


DELIVERIES = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["again", "anew", "digest", "restart"])))


@given(DELIVERIES)
async def test_doubled_late_and_reordered_deliveries_make_one_row_each(
    deliveries: list[tuple[int, str]],
) -> None:
    """`anew`: with another event id; `restart`: nobody remembers what was received."""
    receivers, digester, jobs = Receivers(), None, set[str]()
    for number, (job, what) in enumerate(deliveries):
        event_id = number + 100 if what == "anew" else job
        receivers.receive(a_result(event_id, f"job-{job}", sources=[f"{HANDLE}{job}"]))
        jobs.add(f"filestack:{HANDLE}{job}")
        receivers.now += timedelta(seconds=30)
        if what in {"digest", "restart"}:
            digester = receivers.digester() if digester is None or what == "restart" else digester
            await digester.step()
    receivers.now += timedelta(seconds=60)
    await (digester or receivers.digester()).step()
    assert sorted(row["id"] for row in receivers.rows()) == sorted(jobs)


async def test_several_that_deal_with_the_same_events_at_once_make_one_row_each() -> None:
    receivers = Receivers()
    receivers.receive(*(a_result(n, f"job-{n}", sources=[f"{HANDLE}{n}"]) for n in range(20)))
    receivers.now += timedelta(seconds=60)
    await asyncio.gather(*(receivers.digester().step() for _ in range(4)))
    assert len(receivers.rows()) == 20


async def test_a_receiver_learns_what_others_have_received() -> None:
    receivers = Receivers()
    receivers.receive(a_result())
    await receivers.digest()
    receivers.received = Memory()
    await receivers.digester().step()
    assert receivers.received.knows(a_result(7))
