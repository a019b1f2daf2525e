"""What a run's rows tell the sinks that take its write-backs back."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.files import MemoryFiles
from fakes.sink import FakeSink

from tagmill.worker.history import History
from tagmill.worker.models import Handle, ImageRef, Json, Write, WriteStatus
from tagmill.worker.rows import UNDONE
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.store.plan import Planned
from tagmill.worker.undoing import Undoing
from tagmill.worker.writeback import WriteBack

IMAGE = ImageRef(Handle("handle"))
OTHERS = Tagging("other-run", "fake", "f" * 16, "p" * 16, {"auto": {"sea": 1}}, "2026-11-23T00:00:00Z")


def row(**fields: Any) -> Json:
    written = {"fake": {"status": "written"}}
    made = {
        "engine": "fake",
        "engine_config": "f" * 16,
        "policy": "p" * 16,
        "tagged_at": "2026-11-22T00:00:00Z",
    }
    return {
        "run_id": "a-run",
        "tags": {"auto": {"sky": 97}},
        "labels": [],
        "flags": [],
        "writes": written,
        **made,
        **fields,
    }


async def undone(row: Json) -> Write:
    """What becomes of a place where another run wrote since."""
    sink = FakeSink(written={IMAGE.id: OTHERS})
    undoing = Undoing(WriteBack([sink]), History(MemoryFiles()))
    return (await undoing.undo(Planned(IMAGE, row)))["fake"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, WriteStatus.STALE),
        ({"flags": [UNDONE]}, WriteStatus.UNCHANGED),
        ({"flags": [UNDONE], "writes": {"fake": {"status": "stale"}}}, WriteStatus.STALE),
        ({"writes": {"fake": {"status": "unchanged"}}}, WriteStatus.UNCHANGED),
    ],
)
async def test_another_runs_tags_are_a_change_unless_ours_were_taken_back_before(
    fields: Json, status: WriteStatus
) -> None:
    assert (await undone(row(**fields))).status is status


async def test_a_skipped_write_has_nothing_to_take_back() -> None:
    undoing = Undoing(WriteBack([FakeSink()]), History(MemoryFiles()))
    assert await undoing.undo(Planned(IMAGE, row(writes={"fake": {"status": "skipped"}}))) == {}
