"""Tags as S3 object tags: two of ours or three, 256 characters each, in the few characters that S3 allows.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tagmill.worker.models import canonical_hash
from tagmill.worker.sinks.encoding import LABELS, RUN, TAGS, NoRoomError, fitting, number, ranked

OWN_KEYS = frozenset({TAGS, LABELS, RUN})
MAX_TAGS = 10  #: of one object, whoever they belong to
MAX_CHARACTERS = 256  #: of a value


@dataclass(frozen=True, slots=True)
class Note:
    """The value of `tagmill-run`: by which run, with which settings, of which content, instead of whose."""

    run: str
    marker: str
    content: str  #: see `content_mark`
    replaces: str | None = None

    @property
    def text(self) -> str:
        return " ".join(filter(None, (self.run, self.marker, self.content, self.replaces)))

    @classmethod
    def parse(cls, text: str | None) -> Note | None:
        """None for nothing, and for what we never wrote."""
        match (text or "").split(" "):
            case [run, marker, content]:
                return cls(run, marker, content)
            case [run, marker, content, replaces]:
                return cls(run, marker, content, replaces)
        return None


def content_mark(etag: str) -> str:
    """Return an ETag as a word of fixed length: some servers' ETags hold characters that a tag cannot."""
    return canonical_hash(etag)


def encode(labels: Mapping[str, float]) -> tuple[str, int]:
    """Return the value of `tagmill-tags` and how many labels are not in it, the least confident first.

    Raise NoRoomError when there are labels and not even one fits.
    """
    words = _words(labels)
    kept = fitting(words, MAX_CHARACTERS)
    if words and not kept:
        raise NoRoomError(f"the most confident label is longer than {MAX_CHARACTERS} characters")
    return " ".join(kept), len(labels) - len(kept)


def encode_labels(labels: Iterable[str]) -> tuple[dict[str, str], int]:
    """Return the tag for the labels of a row, none for no labels, and how many found no room."""
    words = list(filter(None, dict.fromkeys(map(slug, labels))))
    kept = fitting(words, MAX_CHARACTERS)
    return {LABELS: " ".join(kept)} if kept else {}, len(words) - len(kept)


def slug(label: str) -> str:
    """Letters and digits stay, each run of anything else becomes a hyphen."""
    normal = unicodedata.normalize("NFC", label)
    return "-".join("".join(c if c.isalnum() else " " for c in normal).split())


def _words(labels: Mapping[str, float]) -> list[str]:
    """Most confident first; of labels that look alike as slugs the most confident alone."""
    words: dict[str, str] = {}
    for label, confidence in ranked(labels):
        words.setdefault(slug(label), number(confidence))
    return [f"{word}:{confidence}" for word, confidence in words.items() if word]
