from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.sinks.encoding import NoRoomError
from tagmill.worker.sinks.tag_text import MAX_CHARACTERS, Note, content_mark, encode, slug

RUN, MARKER = "r" * 64, "0123456789abcdef.fedcba9876543210"
ALLOWED = set("_.:/=+-@ ")
labels = st.dictionaries(st.text(max_size=40), st.floats(0, 100), max_size=60)


def test_the_most_confident_label_comes_first() -> None:
    assert encode({"no person": 88, "sky": 97, "sea": 88}) == ("sky:97 no-person:88 sea:88", 0)


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("trip (journey)", "trip-journey"),
        ("  black & white ", "black-white"),
        ("no-person", "no-person"),
        ("größe", "größe"),
        ("gro\u0308ße", "größe"),
        ("3d", "3d"),
        ("空", "空"),
        ("a:b,c", "a-b-c"),
        ("\ud800", ""),
        ("?!", ""),
    ],
)
def test_a_label_becomes_one_word(label: str, word: str) -> None:
    assert slug(label) == word


def test_whatever_python_calls_a_letter_or_digit_s3_does_too() -> None:
    kept = (chr(code) for code in range(sys.maxunicode + 1) if chr(code).isalnum())
    assert {unicodedata.category(character)[0] for character in kept} == {"L", "N"}


def test_of_labels_that_look_alike_the_most_confident_stays_and_the_others_are_counted() -> None:
    assert encode({"no person": 88, "No person": 50, "no-person": 97, "!": 99}) == (
        "no-person:97 No-person:50",
        2,
    )


def test_no_label_is_an_empty_value() -> None:
    assert encode({}) == ("", 0)


def test_a_label_longer_than_a_value_finds_no_room() -> None:
    with pytest.raises(NoRoomError):
        encode({"x" * 300: 99})


@given(labels)
def test_every_value_is_one_that_s3_takes(labels: dict[str, float]) -> None:
    value, left_out = encode(labels)
    assert len(value) <= MAX_CHARACTERS
    assert all(unicodedata.category(c)[0] in "LN" or c in ALLOWED for c in value)
    assert left_out == len(labels) - len(value.split())


@pytest.mark.parametrize("replaces", [None, "r" * 64])
def test_a_note_is_read_as_it_was_written_and_fits(replaces: str | None) -> None:
    note = Note(RUN, MARKER, content_mark("any etag; whatever it holds"), replaces)
    assert Note.parse(note.text) == note
    assert len(note.text) <= MAX_CHARACTERS


@pytest.mark.parametrize("text", [None, "", "run", "a b", "a b c d e"])
def test_what_we_never_wrote_is_no_note(text: str | None) -> None:
    assert Note.parse(text) is None
