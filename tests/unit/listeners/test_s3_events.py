from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.s3_notifications import AT, PRINCIPAL, TEST_EVENT, by_event_bridge, by_sns, plain, record

from tagmill.producer.listeners.s3_events import Created, read_message
from tagmill.worker.models import S3Object

KEYS = ["a b.jpg", "a+b.jpg", "%41.jpg", "ü/日本.jpg", "../x\n.jpg", "a&b=c?.jpg", "ünïcode/" + "x" * 900]


@pytest.mark.parametrize("key", KEYS)
def test_the_key_is_what_it_was_in_every_shape(key: str) -> None:
    body = plain(record("b", key))
    for shape in (body, by_sns(body), by_event_bridge("b", key), by_sns(by_event_bridge("b", key))):
        [created] = read_message(shape)
        assert created.source == S3Object("b", key, "e" * 32, 70, AT)
        assert created.sequencer == "0055AED6DCD90281E5"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_comes_through(key: str) -> None:
    assert read_message(plain(record("b", key)))[0].source.key == key
    assert read_message(by_event_bridge("b", key))[0].source.key == key


def test_versions_principals_and_copies_are_kept() -> None:
    copied = record("b", "k", name="ObjectCreated:Copy", versionId="v7")
    [created] = read_message(plain(copied))
    assert created == Created(
        S3Object("b", "k", "e" * 32, 70, AT, "v7"), AT, "0055AED6DCD90281E5", copied=True, principal=PRINCIPAL
    )
    [created] = read_message(by_event_bridge("b", "k", reason="CopyObject", **{"version-id": "v7"}))
    assert (created.source.version_id, created.copied, created.principal) == ("v7", True, None)


def test_a_message_may_hold_several_records() -> None:
    assert [c.source.key for c in read_message(plain(record("b", "1"), record("b", "2")))] == ["1", "2"]


@pytest.mark.parametrize(
    "body",
    [
        TEST_EVENT,
        by_sns(TEST_EVENT),
        plain(),
        plain(record("b", "k", name="ObjectRemoved:Delete")),
        by_event_bridge("b", "k", kind="Object Deleted"),
    ],
)
def test_tests_and_what_creates_nothing_are_nothing_new(body: str) -> None:
    assert read_message(body) == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "7",
        "[]",
        "null",
        "{}",
        '{"Records": 7}',
        '{"Records": [{}]}',
        '{"Type": "Notification", "Message": "hello"}',
        plain(record("b", "k") | {"s3": {}}),
        plain(record("b", "")),
        plain(record("b", "%FF") | {"s3": {"bucket": {"name": "b"}, "object": {"key": "%FF"}}}),
        plain(record("b", "k", size="large")),
        plain(record("b", "k", size=10**30)),
        plain(record("b", "k", size=-1)),
        plain(record("b", "k", versionId=7)),
        by_event_bridge("b", "\ud800.jpg"),
        by_event_bridge("b", "k", sequencer="\ud800"),
        by_event_bridge("b", "k", **{"version-id": 7}),
        by_event_bridge("", "k"),
    ],
)
def test_what_cannot_be_understood_is_said(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        read_message(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["Records", "s3", "Type"]), inner),
)


@given(JSON)
def test_odd_messages_are_understood_or_refused(message: Any) -> None:
    with suppress(ValueError):
        read_message(json.dumps(message))
