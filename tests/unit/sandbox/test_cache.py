"""The CDN's memory of answers."""

from __future__ import annotations

import pytest

from tagmill.sandbox import cache
from tagmill.sandbox.cache import EdgeCache
from tagmill.sandbox.replies import text_reply


def test_an_answer_lives_as_long_as_it_was_kept_for() -> None:
    now = 0.0
    edge = EdgeCache(lambda: now)
    edge.put("url", text_reply(200, "answer"), 10)
    now = 9.9
    hit = edge.get("url")
    assert hit is not None
    assert hit.headers == (("X-Cache", "HIT"),)
    now = 10.0
    assert edge.get("url") is None


def test_rarely_used_answers_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    edge = EdgeCache(lambda: 0.0)
    for key in "ab":
        edge.put(key, text_reply(200, key), 10)
    edge.get("a")
    edge.put("c", text_reply(200, "c"), 10)
    assert [key for key in "abc" if edge.get(key)] == ["a", "c"]
