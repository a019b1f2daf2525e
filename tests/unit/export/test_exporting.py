"""Which rows are exported, and that they come through as they are."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest
from fakes.rows import ROWS, a_row
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.export.exporting import Exporting
from tagmill.producer.export.formats import Format
from tagmill.producer.export.selection import Selection
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json, Status
from tagmill.worker.policy import TagPolicy

LIBRARY = [
    a_row(id="coast", tags={"auto": {"Sea": 90, "sky": 40}, "user": None}),
    a_row(id="street", tags={"auto": {"car": 95, "sky": 80}, "user": None}),
    a_row(id="wall", tags={"auto": {}, "user": "mine"}, flags=["no_tags"]),
    a_row(id="broken", status="failed", tags=None, raw_tags=None),
]


class Basket:
    def __init__(self) -> None:
        self.content = b""

    def write(self, blocks: Iterable[bytes]) -> None:
        self.content = b"".join(blocks)


def exported(rows: list[Json], exporting: Exporting) -> list[Json]:
    basket = Basket()
    exporting.write(map(orjson.dumps, rows), basket)
    assert exporting.size == len(basket.content)
    return [orjson.loads(line) for line in basket.content.splitlines()]


def chosen(
    statuses: Iterable[str] = (),
    tags: Iterable[str] = (),
    min_confidence: float = 0,
    *,
    explode: bool = False,
) -> list[Json]:
    selection = Selection.parse(list(statuses), list(tags), min_confidence)
    return exported(LIBRARY, Exporting(Format.JSONL, selection, explode))


@pytest.mark.parametrize(
    ("statuses", "tags", "min_confidence", "ids"),
    [
        ([], [], 0, ["coast", "street", "wall", "broken"]),
        (["failed"], [], 0, ["broken"]),
        (["failed", "tagged"], [], 0, ["coast", "street", "wall", "broken"]),
        ([], ["sky"], 0, ["coast", "street"]),
        ([], ["SEA", "c?r"], 0, ["coast", "street"]),
        ([], ["s*"], 85, ["coast"]),
        ([], [], 91, ["street"]),
        (["failed"], ["*"], 0, []),
    ],
)
def test_an_image_with_one_fitting_tag_is_exported_whole(
    statuses: list[str], tags: list[str], min_confidence: float, ids: list[str]
) -> None:
    rows = chosen(statuses, tags, min_confidence)
    assert rows == [row for row in LIBRARY if row["id"] in ids]


def test_exploded_only_fitting_tags_have_a_line() -> None:
    lines = chosen(tags=["s*"], min_confidence=50, explode=True)
    assert [(line["id"], line["tag"], line["confidence"]) for line in lines] == [
        ("coast", "Sea", 90),
        ("street", "sky", 80),
    ]


def test_images_are_counted_not_their_lines() -> None:
    exporting = Exporting(Format.JSONL, Selection(tags=TagPolicy(allow=("*",))), explode=True)
    assert len(exported(LIBRARY, exporting)) == 4
    assert exporting.images == 2


@given(st.lists(ROWS, max_size=5))
def test_rows_come_through_byte_for_byte(rows: list[Json]) -> None:
    lines = [orjson.dumps(row) for row in rows]
    for selection in (Selection(), Selection(frozenset(Status))):
        basket = Basket()
        Exporting(Format.JSONL, selection, explode=False).write(lines, basket)
        assert basket.content == b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("statuses", "min_confidence", "said"),
    [
        (["fine"], 0, "--status fine: use one of tagged, failed,"),
        ([], 101, "--min-confidence must be from 0"),
    ],
)
def test_what_nothing_can_fit_is_refused(statuses: list[str], min_confidence: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Selection.parse(statuses, [], min_confidence)
