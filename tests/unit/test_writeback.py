"""Tags to every sink: a conflict is tried again, a refusal is a fact of the row, no failure leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from fakes.sink import FakeSink

from tagmill.worker.errors import (
    RedisUnavailableError,
    SinkBusyError,
    SinkConflictError,
    SinkRejectedError,
    TaggingError,
)
from tagmill.worker.models import Handle, ImageRef, Write, WriteStatus
from tagmill.worker.sinks.base import Sink, Tagging, Written
from tagmill.worker.writeback import WriteBack

IMAGE = ImageRef(Handle("handle"))
TAGGING = Tagging("run", "fake", "f" * 16, "p", {"auto": {"sky": 97}, "user": None}, "2026-11-22T00:00:00Z")


class Recorder:
    """Stands for the journal and for time."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any]] = []
        self.slept: list[float] = []

    async def keep(self, sink: str, previous: Mapping[str, Any]) -> None:
        self.kept.append((sink, previous))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def write(self, *sinks: FakeSink) -> dict[str, Write]:
        return await WriteBack(sinks, self.sleep).write(IMAGE, TAGGING, self.keep)

    async def undo(self, *sinks: FakeSink, written: Sequence[str] = ("fake",)) -> dict[str, Write]:
        found = {name: Written("run", {"status": "written"}, None, nothing_earlier) for name in written}
        return await WriteBack(sinks, self.sleep).undo(IMAGE, found)

    async def marked(self, *sinks: Sink) -> bool:
        write_back = WriteBack(sinks, self.sleep)
        return await write_back.marked(IMAGE, TAGGING.engine_config, TAGGING.policy, "next-run")


async def nothing_earlier(_run_id: str) -> None:
    """No manifest is left."""


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_without_sinks_there_is_nothing_to_do() -> None:
    assert not WriteBack([])
    assert WriteBack([FakeSink()])


async def test_every_sink_answers_under_its_name(recorder: Recorder) -> None:
    first, second = FakeSink("first"), FakeSink("second", changed={IMAGE.id})
    writes = await recorder.write(first, second)
    assert {name: write.status for name, write in writes.items()} == {
        "first": WriteStatus.WRITTEN,
        "second": WriteStatus.STALE,
    }
    assert recorder.kept == [("first", {"sink": "first", "run": None, "values": {}})]


async def test_a_conflict_is_tried_again_after_a_while(recorder: Recorder) -> None:
    writes = await recorder.write(FakeSink(failures=[SinkConflictError("busy")] * 2))
    assert writes["fake"].status is WriteStatus.WRITTEN
    assert len(recorder.slept) == 2


async def test_a_conflict_that_does_not_end_is_a_failed_write(recorder: Recorder) -> None:
    sink = FakeSink(failures=[SinkConflictError("changed")] * 9)
    writes = await recorder.write(sink)
    assert writes["fake"] == Write(WriteStatus.FAILED, reason="conflict: changed")
    assert len(sink.failures) == 6


async def test_a_busy_store_gets_more_tries_and_growing_pauses(recorder: Recorder) -> None:
    sink = FakeSink(failures=[SinkBusyError("503 SlowDown")] * 9)
    writes = await recorder.write(sink)
    assert writes["fake"] == Write(WriteStatus.FAILED, reason="slow_down: 503 SlowDown")
    assert len(sink.failures) == 3
    assert all(pause <= 2.0**number for number, pause in enumerate(recorder.slept, 1))


async def test_a_refusal_is_not_tried_again_and_other_sinks_go_on(recorder: Recorder) -> None:
    refusing = FakeSink("refusing", failures=[SinkRejectedError("no", code="forbidden")] * 2)
    writes = await recorder.write(refusing, FakeSink("other"))
    assert writes["refusing"] == Write(WriteStatus.FAILED, reason="forbidden: no")
    assert writes["other"].status is WriteStatus.WRITTEN
    assert (len(refusing.failures), recorder.slept) == (1, [])


async def test_an_unexpected_error_is_a_failed_write(recorder: Recorder) -> None:
    writes = await recorder.write(FakeSink(failures=[cast(TaggingError, KeyError("canary"))]))
    assert writes["fake"].status is WriteStatus.FAILED
    assert "canary" not in str(writes["fake"].reason)


async def test_a_failure_of_the_run_leaves(recorder: Recorder) -> None:
    with pytest.raises(RedisUnavailableError):
        await recorder.write(FakeSink(failures=[RedisUnavailableError("away")]))


# --- undo -------------------------------------------------------------------------------------------------


async def test_undo_asks_the_sinks_that_the_run_wrote_to(recorder: Recorder) -> None:
    first, second = FakeSink("first"), FakeSink("second")
    await recorder.write(first, second)
    undone = await recorder.undo(first, second, written=["second", "of-another-run"])
    assert {name: write.status for name, write in undone.items()} == {"second": WriteStatus.WRITTEN}
    assert (list(first.written), list(second.written)) == ([IMAGE.id], [])


async def test_undo_tries_a_conflict_again_and_fails_as_a_write_does(recorder: Recorder) -> None:
    busy = FakeSink(failures=[SinkConflictError("busy")] * 2)
    assert (await recorder.undo(busy))["fake"].status is WriteStatus.UNCHANGED
    assert len(recorder.slept) == 2
    refusing = FakeSink(failures=[SinkRejectedError("no", code="forbidden")])
    assert (await recorder.undo(refusing))["fake"] == Write(WriteStatus.FAILED, reason="forbidden: no")


# --- the marker -------------------------------------------------------------------------------------------


async def test_an_image_is_marked_when_every_sink_says_so(recorder: Recorder) -> None:
    first, second = FakeSink("first"), FakeSink("second")
    await recorder.write(first)
    assert await recorder.marked(first)
    assert not await recorder.marked(first, second)
    assert not await recorder.marked()


async def test_a_sink_that_cannot_tell_does_not_keep_an_image_from_being_tagged(recorder: Recorder) -> None:
    sink = FakeSink()
    await recorder.write(sink)
    sink.mark_failures = [SinkConflictError("busy")]
    assert await recorder.marked(sink)
    sink.mark_failures = [SinkConflictError("busy")] * 3
    assert not await recorder.marked(sink)
    sink.mark_failures = [SinkRejectedError("no", code="forbidden")]
    assert not await recorder.marked(sink)


class NoPlace(FakeSink):
    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> None:
        """It never writes there."""


async def test_a_sink_without_a_place_for_the_image_has_no_say(recorder: Recorder) -> None:
    telling, silent = FakeSink(written={IMAGE.id: TAGGING}), FakeSink()
    assert await recorder.marked(NoPlace(), telling)
    assert not await recorder.marked(NoPlace(), silent)
    assert not await recorder.marked(NoPlace())
