"""A listing beside a state, of folders and of lists."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fakes.files import MemoryFiles
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.meeting import Met, by_name, in_order
from tagmill.producer.sources.base import Cursor, Listed
from tagmill.producer.sources.handles import HandleList, ListFormat
from tagmill.worker.known import Known, key_of
from tagmill.worker.models import ImageRef, LocalFile
from tagmill.worker.store.states import BLOCK, State


def a_state(ids: Sequence[str]) -> State:
    state = State(MemoryFiles(), "source", 1)
    state.write((Known(one, "tagged", "run", "2026-11-22T00:00:00Z", "config") for one in sorted(ids)), {})
    return state


@dataclass
class Listing:
    """Paths; those of `folders` are passed over with a slash at their end."""

    paths: Sequence[str]

    def describe(self) -> str:
        return "a folder"

    def list(self, after: Cursor) -> Iterator[Listed]:
        for path in sorted(self.paths):
            if path > after.get("after", ""):
                ref = None if path.endswith("/") else ImageRef(LocalFile(f"file:///{path}", path, 1, 1))
                yield Listed(ref, {"after": path}, None if ref else "unreadable")


def place(cursor: Cursor) -> bytes:
    return key_of(f"file:///{cursor['after']}") if "after" in cursor else b""


def gone(met: Iterator[Met]) -> list[str]:
    return [one.known.id for one in met if one.item is None and one.known is not None]


def test_what_is_below_a_folder_that_cannot_be_read_has_not_disappeared() -> None:
    state = a_state([f"file:///{path}" for path in ("a.jpg", "dark/1.jpg", "dark/2/3.jpg", "e.jpg")])
    listing = Listing(["dark/", "e.jpg"])
    assert gone(in_order(listing, state, {}, place, deep=True)) == ["file:///a.jpg"]
    assert gone(in_order(listing, state, {"after": "dark/"}, place, deep=True)) == []


def test_an_object_that_stands_for_a_folder_hides_nothing() -> None:
    state = a_state(["file:///a/1.jpg", "file:///a/2.jpg"])
    assert gone(in_order(Listing(["a/", "a/2.jpg"]), state, {}, place, deep=False)) == ["file:///a/1.jpg"]


def handles(numbers: Sequence[int]) -> HandleList:
    text = "".join(f"handle{number:08d}\n" for number in numbers).encode()
    return HandleList(lambda: io.BytesIO(text), "list.txt", ListFormat.TXT)


@given(st.sets(st.integers(0, 20)), st.lists(st.integers(0, 20), max_size=20), st.data())
@settings(max_examples=60)
def test_a_list_in_any_order_meets_what_is_known_wherever_it_is_gone_on_with(
    before: set[int], now: list[int], data: st.DataObject
) -> None:
    state = a_state([f"filestack:handle{number:08d}" for number in before])
    whole = list(by_name(handles(now), state, {}))
    met = [(one.item.ref.source.line, one.known is not None) for one in whole if one.item and one.item.ref]  # type: ignore[union-attr] # all are handles
    assert met == [(line, number in before) for line, number in enumerate(now, 1)]
    assert gone(iter(whole)) == [f"filestack:handle{number:08d}" for number in sorted(before - set(now))]
    if whole:
        cut = data.draw(st.integers(0, len(whole) - 1))
        assert list(by_name(handles(now), state, whole[cut].cursor)) == whole[cut + 1 :]


def test_what_a_list_passes_over_has_not_disappeared() -> None:
    class Report:
        def describe(self) -> str:
            return "a report"

        def list(self, _: Cursor) -> Iterator[Listed]:
            yield Listed(None, {"row": 1}, "archived", passed_over="s3://b/cold.jpg")
            yield Listed(None, {"row": 2}, "deleted")

    met = by_name(Report(), a_state(["s3://b/cold.jpg", "s3://b/gone.jpg"]), {})
    assert gone(met) == ["s3://b/gone.jpg"]


def test_a_state_is_gone_on_with_behind_any_image() -> None:
    ids = [f"filestack:{number:06d}" for number in range(2 * BLOCK + 5)]
    state = a_state(ids)
    for after in (0, BLOCK - 1, BLOCK, len(ids) - 1):
        assert [one.id for one in state.known(key_of(ids[after]))] == ids[after + 1 :]
    assert sum(1 for _ in state.known()) == len(ids)
