from __future__ import annotations

import gzip
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.worker.store import jsonl

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.text(), JSON)))
def test_what_is_packed_comes_back(records: list[dict[str, object]]) -> None:
    assert list(jsonl.unpack(jsonl.pack(records))) == records


def test_equal_records_give_equal_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = jsonl.pack([{"a": 1}, {"b": "ü"}])
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    assert jsonl.pack([{"a": 1}, {"b": "ü"}]) == first


def test_any_tool_reads_it_line_by_line() -> None:
    lines = gzip.decompress(jsonl.pack([{"a": 1}, {"b": [2, None]}])).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"b": [2, None]}]


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\r", "\n", "\r\n"]
)
def test_a_name_with_a_line_separator_stays_one_line(separator: str) -> None:
    records = [{"id": f"a{separator}b"}, {"id": "c"}]
    assert list(jsonl.unpack(jsonl.pack(records))) == records
