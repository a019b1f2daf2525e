from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.sources.globs import compile_globs


def matches(pattern: str, name: str) -> bool:
    compiled = compile_globs([pattern])
    assert compiled
    return compiled.fullmatch(name) is not None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.jpg", "a.jpg"),
        ("*.jpg", "deep/down/a.jpg"),
        ("/*.jpg", "a.jpg"),
        ("2026/*.jpg", "2026/a.jpg"),
        ("2026/**", "2026/05/a.jpg"),
        ("**/thumbs/*", "thumbs/a.jpg"),
        ("**/thumbs/*", "x/y/thumbs/a.jpg"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("thumbs/", "thumbs/a/b.jpg"),
        ("thumbs/", "x/thumbs/a.jpg"),
        ("/thumbs/", "thumbs/a.jpg"),
        ("img?.png", "img1.png"),
        ("img[0-9].png", "img7.png"),
        ("img[!0-9].png", "imgx.png"),
        ("[]].png", "].png"),
        ("[&&~|[].png", "[.png"),
        ("a.b+(c).png", "a.b+(c).png"),
        ("line\nbreak*", "line\nbreak.jpg"),
        ("*", "line\nbreak.jpg"),
    ],
)
def test_matches(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.jpg", "a.jpeg"),
        ("*.jpg", "A.JPG"),
        ("/*.jpg", "x/a.jpg"),
        ("2026/*.jpg", "2026/05/a.jpg"),
        ("2026/*.jpg", "x/2026/a.jpg"),
        ("thumbs/", "thumbs"),
        ("/thumbs/", "x/thumbs/a.jpg"),
        ("img?.png", "img/.png"),
        ("img[!0-9].png", "img/.png"),
        ("a.b", "axb"),
    ],
)
def test_does_not_match(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


def test_any_of_several_patterns_is_enough_and_none_is_no_expression() -> None:
    either = compile_globs(["*.jpg", "*.png"])
    assert either
    assert either.fullmatch("a.png")
    assert compile_globs([]) is None


def test_an_impossible_range_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=re.escape("'[z-a].jpg' is no glob")):
        compile_globs(["[z-a].jpg"])


@given(st.text(alphabet="ab/.*?[]!-&~|^\\\n", max_size=12), st.text(alphabet="ab/.]-\n", max_size=8))
def test_any_pattern_compiles_or_is_refused(pattern: str, name: str) -> None:
    try:
        compiled = compile_globs([pattern])
    except ValueError:
        return
    assert compiled
    compiled.fullmatch(name)


@given(st.text(alphabet="ab.+(){}$^|\\ é\n", min_size=1, max_size=12))
def test_a_pattern_without_special_characters_matches_itself(name: str) -> None:
    assert matches(name, name)
