"""Answers of single tasks: the documented shapes pass, anything else is one typed error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagmill.worker.engines.task_answers import parse_answer
from tagmill.worker.errors import BadResponseError
from tagmill.worker.task_list import KINDS

AREA = {"bounding_box": [{"x": 0, "y": 0}], "lines": [{"text": "exit", "words": []}]}
DOCUMENTED: dict[str, list[dict[str, Any]]] = {
    "tags": [{"tags": {"auto": {"sky": 97}, "user": None}}],
    "sfw": [{"sfw": True}, {"sfw": False, "more": [1]}],
    "caption": [{"caption": "a dog on a beach"}, {"caption": ""}],
    "ocr": [{"document": {"text_areas": [AREA]}}, {"document": {"text_areas": []}, "text": ""}],
    "copyright": [{"copyright": False, "licenses": []}, {"copyright": True}],
    "image_sentiment": [{"emotions": {"HAPPY": 91.5, "SAD": 0.25}}, {"emotions": {}}],
    "doc_detection": [
        {"coords": {"x": 0, "y": 300, "width": 100, "height": 90}},
        {"coords": [{"x": 0, "y": 0}, {"x": 9, "y": 0}, {"x": 9, "y": 9}, {"x": 0, "y": 9}]},
    ],
}
WRONG: dict[str, list[Any]] = {
    "tags": [{}, {"tags": []}],
    "sfw": [{}, {"sfw": "true"}, {"sfw": 1}, {"sfw": None}, [True]],
    "caption": [{}, {"caption": None}, {"caption": ["a dog"]}, "a dog"],
    "ocr": [{}, {"document": []}, {"document": {}}, {"document": {"text_areas": {}}}],
    "copyright": [{}, {"copyright": "no"}, {"copyright": True, "licenses": "none"}],
    "image_sentiment": [{}, {"emotions": []}, {"emotions": None}],
    "doc_detection": [{}, {"coords": {}}, {"coords": {"x": 0, "y": 0, "width": True, "height": 1}}],
}
ANY_KIND = st.sampled_from(sorted(KINDS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["x", "auto"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("kind", "data"), [(kind, data) for kind in KINDS for data in DOCUMENTED[kind]])
def test_a_documented_answer_is_kept_as_it_came(kind: str, data: dict[str, Any]) -> None:
    assert parse_answer(kind, json.dumps(data).encode()) == (data, ())


@pytest.mark.parametrize(("kind", "data"), [(kind, data) for kind in KINDS for data in WRONG[kind]])
def test_another_shape_is_no_answer(kind: str, data: Any) -> None:
    with pytest.raises(BadResponseError):
        parse_answer(kind, json.dumps(data).encode())


def test_emotions_out_of_scale_are_dropped_and_said_to_be() -> None:
    body = b'{"emotions": {"HAPPY": 91.5, "SAD": 101, "CALM": true, "ANGRY": NaN}}'
    assert parse_answer("image_sentiment", body) == ({"emotions": {"HAPPY": 91.5}}, ("partial",))


def test_a_text_that_no_file_can_hold_is_no_answer() -> None:
    with pytest.raises(BadResponseError, match="cannot be kept"):
        parse_answer("caption", rb'{"caption": "\ud800"}')


@given(kind=ANY_KIND, body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
@example("ocr", b"[" * 100_000)
@example("caption", b'{"caption": "' + b"x" * (1 << 20) + b'"}')
def test_whatever_comes_is_data_or_one_typed_error(kind: str, body: bytes) -> None:
    try:
        data, _ = parse_answer(kind, body)
    except BadResponseError:
        return
    json.dumps(data, allow_nan=False)


@given(kind=ANY_KIND, value=JSON)
def test_odd_data_in_the_right_place_is_data_or_one_typed_error(kind: str, value: Any) -> None:
    key = next(iter(DOCUMENTED[kind][0]))
    try:
        data, _ = parse_answer(kind, json.dumps({key: value}).encode())
    except BadResponseError:
        return
    json.dumps(data, allow_nan=False)
