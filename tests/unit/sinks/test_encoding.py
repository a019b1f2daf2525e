from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.sinks import encoding
from tagmill.worker.sinks.encoding import NoRoomError

FIXED = {
    encoding.SCHEMA: "1",
    encoding.RUN: "run-one",
    encoding.CONFIG: "0" * 16,
    encoding.SOURCE_ETAG: "0" * 32,
}
confidences = st.integers(0, 100) | st.floats(0, 100)
labels = st.dictionaries(st.text(max_size=30), confidences, max_size=40)
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
foreign_metadata = st.dictionaries(
    names, st.text(st.characters(min_codepoint=32, max_codepoint=126)), max_size=20
)


def test_the_form_is_the_documented_one() -> None:
    values = encoding.encode({"no person": 88, "sky": 97}, FIXED, {}).values
    assert values == {**FIXED, "tagmill-tags": "sky:97,no%20person:88"}


def test_equal_confidences_are_ordered_by_label() -> None:
    assert encoding.encode({"b": 5, "a": 5, "c": 6.5}, FIXED, {}).values[encoding.TAGS] == "c:6.5,a:5,b:5"


def test_separators_in_a_label_do_not_separate() -> None:
    values = encoding.encode({"a,b:c%20": 1}, FIXED, {}).values
    assert values[encoding.TAGS] == "a%2Cb%3Ac%2520:1"
    assert encoding.decode(values) == {"a,b:c%20": 1}


def test_half_a_surrogate_pair_survives() -> None:
    values = encoding.encode({"\ud83d": 1}, FIXED, {}).values
    assert encoding.decode(values) == {"\ud83d": 1}


def test_no_labels_write_no_empty_value() -> None:
    values = encoding.encode({}, FIXED, {}).values
    assert values == FIXED
    assert encoding.decode(values) == {}


def test_objects_without_our_schema_are_not_ours() -> None:
    assert encoding.decode({"tagmill-tags": "sky:97"}) is None
    assert encoding.decode({"tagmill-schema": "2", "tagmill-tags": "sky:97"}) is None


@given(labels, foreign_metadata)
def test_what_fits_comes_back_and_the_least_confident_is_cut(
    labels: dict[str, float], foreign: dict[str, str]
) -> None:
    foreign = {f"x-{key}": value for key, value in foreign.items()}
    try:
        encoded = encoding.encode(labels, FIXED, foreign)
    except NoRoomError:
        with pytest.raises(NoRoomError):
            encoding.encode(dict(encoding.ranked(labels)[:1]), FIXED, foreign)
        return
    ranked = encoding.ranked(labels)
    assert encoding.decode(encoded.values) == dict(ranked[: len(ranked) - encoded.truncated])
    assert encoding.metadata_bytes({**foreign, **encoded.values}) <= encoding.BUDGET_BYTES
    assert all(value.isascii() and value.isprintable() for value in encoded.values.values())


def test_the_budget_is_used_to_the_last_byte() -> None:
    labels = {f"label-{number:03d}": 100 - number / 10 for number in range(300)}
    encoded = encoding.encode(labels, FIXED, {"owner": "someone"})
    used = encoding.metadata_bytes({"owner": "someone", **encoded.values})
    next_word = f",label-{300 - encoded.truncated:03d}:12.3"
    assert used <= encoding.BUDGET_BYTES < used + len(next_word)


@pytest.mark.parametrize("size", [1950, 2040, 4000])
def test_no_room_is_an_error_and_not_an_empty_answer(size: int) -> None:
    with pytest.raises(NoRoomError):
        encoding.encode({"sky": 97}, FIXED, {"owner": "x" * size})
