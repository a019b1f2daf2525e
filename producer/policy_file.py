"""A tag policy as people write it: TOML, or a CSV that is a vocabulary and nothing else."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field

from tagmill.producer.text_file import read_text
from tagmill.producer.written_files import WRITTEN, Confidence, Label, RuleEntry, Text, named, rules_of
from tagmill.worker.policy import TagPolicy, folded

CSV_SUFFIX = ".csv"
CSV_HEAD = ("label", "term")
T = TypeVar("T")


def read_policy(path: Path) -> TagPolicy:
    """Raise `NotFoundError`, or `ConfigError`: one line that names file, key and rule."""
    with _said_of(path):
        if path.suffix.lower() == CSV_SUFFIX:
            return PolicyFile.model_validate({"vocabulary": _vocabulary(path)}).policy()
        said = tomllib.loads(read_text(path, "policy file"))
        if isinstance(file := said.get("vocabulary"), str):
            said["vocabulary"] = _vocabulary(path.parent / file)
        return PolicyFile.model_validate(said).policy()


# --- the rules of the keys --------------------------------------------------------------------------------


def _whole(label: str) -> str:
    if "*" in label or "?" in label:
        raise ValueError("wildcards are for allow and deny; write a whole label")
    return label


WholeLabel = Annotated[Label, AfterValidator(_whole)]


class PolicyFile(BaseModel):
    """Every key; docs/policy.md explains them."""

    model_config = WRITTEN

    min_confidence: Confidence = 0
    min_confidence_for: dict[WholeLabel, Confidence] = {}
    max_tags: int | None = Field(None, ge=1)
    allow: list[Label] = []
    deny: list[Label] = []
    vocabulary: dict[WholeLabel, Label] = {}
    only_vocabulary: bool = False
    prefix: Text = ""
    case: Literal["lower", "upper", "title"] | None = None
    rules: list[RuleEntry] = []

    def policy(self) -> TagPolicy:
        """Raise ValueError for rules of the whole file."""
        if self.only_vocabulary and not self.vocabulary:
            raise ValueError("only_vocabulary: without a vocabulary no label would be left")
        return TagPolicy(
            min_confidence=self.min_confidence,
            min_confidence_for=_by_label("min_confidence_for", self.min_confidence_for.items()),
            max_tags=self.max_tags,
            allow=tuple(map(folded, self.allow)),
            deny=tuple(map(folded, self.deny)),
            vocabulary=_by_label("vocabulary", self.vocabulary.items()),
            only_vocabulary=self.only_vocabulary,
            prefix=self.prefix,
            case=self.case,
            rules=rules_of(self.rules),
        )


def _by_label(key: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for label, value in pairs:
        first = found.setdefault(folded(label), value)
        if first != value:
            raise ValueError(f"{key}: {label!r} is there twice, with {first!r} and with {value!r}")
    return found


# --- files ------------------------------------------------------------------------------------------------


def _vocabulary(path: Path) -> dict[str, str]:
    """Lines of a label and your term; the line `label,term` at the head may be missing."""
    with _said_of(path):
        pairs = list(_pairs(read_text(path, "policy file")))
        return _by_label("vocabulary", pairs[1:] if pairs[:1] == [CSV_HEAD] else pairs)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in filter(None, reader):
            if len(cells) != len(CSV_HEAD):
                raise ValueError(f"line {reader.line_num}: write a label and your term, as in sea,ocean")
            yield cells[0].strip(), cells[1].strip()
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _said_of(path: Path) -> AbstractContextManager[None]:
    return named(path, "policy", PolicyFile.model_fields, RuleEntry.model_fields)
