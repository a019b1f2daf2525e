"""The parser believes nothing: what is usable is kept, what is not is dropped and flagged."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.engines.exchange import MAX_BODY_BYTES
from tagmill.worker.engines.filestack_answers import MAX_LABELS, parse_tags
from tagmill.worker.errors import BadResponseError
from tagmill.worker.models import Answer, canonical_hash

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def body(tags: Any) -> bytes:
    return json.dumps({"tags": tags}).encode()


def test_tags_are_taken_as_they_are() -> None:
    auto = {"sky": 97, "no person": 98, "trip (journey)": 81.5}
    assert parse_tags(body({"auto": auto, "user": None})) == ({"auto": auto, "user": None}, ())


@pytest.mark.parametrize("tags", [{"auto": {}}, {"auto": None}, {}, {"user": None}])
def test_no_tags_is_a_success_with_a_flag(tags: Any) -> None:
    assert parse_tags(body(tags)) == ({"auto": {}, "user": None}, ("no_tags",))


def test_unknown_keys_and_the_users_tags_are_kept() -> None:
    tags = {"auto": {"sky": 1}, "user": {"mine": "yes"}, "model": {"name": "x"}}
    assert parse_tags(body(tags)) == (tags, ())


@pytest.mark.parametrize(
    "confidence", ["true", '"97"', "NaN", "Infinity", "-1", "100.1", "1e999", "9" * 400, "null", "[97]"]
)
def test_a_bad_confidence_costs_its_label_only(confidence: str) -> None:
    raw = f'{{"tags": {{"auto": {{"sky": 97, "bad": {confidence}}}}}}}'.encode()
    assert parse_tags(raw) == ({"auto": {"sky": 97}, "user": None}, ("partial",))


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "\ud800", "x" * 257])
def test_a_bad_label_is_dropped(label: str) -> None:
    assert parse_tags(body({"auto": {label: 97}})) == ({"auto": {}, "user": None}, ("partial", "no_tags"))


def test_labels_are_normalised_and_the_higher_confidence_of_two_spellings_counts() -> None:
    tags, flags = parse_tags(body({"auto": {"cafe\u0301": 60, "caf\u00e9": 40}}))
    assert tags["auto"] == {"caf\u00e9": 60}
    assert flags == ("partial",)


def test_a_label_given_twice_is_noticed() -> None:
    tags, flags = parse_tags(b'{"tags": {"auto": {"sky": 1, "sky": 2}}}')
    assert (tags["auto"], flags) == ({"sky": 2}, ("partial",))


def test_only_the_surest_labels_of_too_many_are_kept() -> None:
    auto = {f"label {number}": number * 100 / 1500 for number in range(1500)}
    tags, flags = parse_tags(body({"auto": auto}))
    assert set(tags["auto"]) == {f"label {number}" for number in range(1500 - MAX_LABELS, 1500)}
    assert flags == ("partial",)


def test_what_no_file_could_hold_is_dropped() -> None:
    nested = b"[" * 500 + b"]" * 500
    raw = b'{"tags": {"auto": {"sky": 1}, "user": "\\ud800", "deep": ' + nested + b"}}"
    assert parse_tags(raw) == ({"auto": {"sky": 1}, "user": None}, ("partial",))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Invalid Application\n",
        b"<html></html>",
        b'{"error": "invalid security policy path"}',
        b'{"tags": {"auto": {"sky": 9',
        b'{"tags": []}',
        b'{"tags": {"auto": []}}',
        b'{"tags": {"auto": "sky"}}',
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"tags": {"auto": {}}}'.ljust(MAX_BODY_BYTES + 1),
    ],
)
def test_what_is_no_tagging_answer_is_a_bad_response(raw: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse_tags(raw)


def check(raw: bytes) -> None:
    try:
        tags, flags = parse_tags(raw)
    except BadResponseError:
        return
    assert all(isinstance(label, str) and 0 <= value <= 100 for label, value in tags["auto"].items())
    assert set(flags) <= {"partial", "no_tags"}
    stored = orjson.loads(orjson.dumps(Answer(tags, flags).to_json()))
    assert Answer.from_json(stored) == Answer(tags, flags)
    canonical_hash(tags)


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    check(raw)


@given(st.dictionaries(st.text(), ANYTHING) | ANYTHING)
def test_any_json_is_read_or_refused_and_what_is_read_can_be_stored(auto: Any) -> None:
    check(body({"auto": auto}))
    check(body(auto))
