"""A tag policy as people write it: TOML, or a CSV that is a vocabulary and nothing else."""

from __future__ import annotations

import csv
import difflib
import io
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tagmill.producer.text_file import read_text
from tagmill.worker.errors import ConfigError
from tagmill.worker.policy import TagPolicy, folded

CSV_SUFFIX = ".csv"
CSV_HEAD = ("label", "term")
LONGEST_LABEL = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
T = TypeVar("T")


def read_policy(path: Path) -> TagPolicy:
    """Raise `NotFoundError`, or `ConfigError`: one line that names file, key and rule."""
    with _named(path):
        if path.suffix.lower() == CSV_SUFFIX:
            return PolicyFile.model_validate({"vocabulary": _vocabulary(path)}).policy()
        said = tomllib.loads(read_text(path, "policy file"))
        if isinstance(file := said.get("vocabulary"), str):
            said["vocabulary"] = _vocabulary(path.parent / file)
        return PolicyFile.model_validate(said).policy()


# --- the rules of the keys --------------------------------------------------------------------------------


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters have no place in a label")
    return text


def _visible(text: str) -> str:
    if not text.strip():
        raise ValueError("write at least one character that is no space")
    return text


def _whole(label: str) -> str:
    if "*" in label or "?" in label:
        raise ValueError("wildcards are for allow and deny; write a whole label")
    return label


Text = Annotated[str, Field(max_length=LONGEST_LABEL), AfterValidator(_printable)]
Label = Annotated[Text, AfterValidator(_visible)]
WholeLabel = Annotated[Label, AfterValidator(_whole)]
Confidence = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class PolicyFile(BaseModel):
    """Every key; docs/policy.md explains them."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    min_confidence: Confidence = 0
    min_confidence_for: dict[WholeLabel, Confidence] = {}
    max_tags: int | None = Field(None, ge=1)
    allow: list[Label] = []
    deny: list[Label] = []
    vocabulary: dict[WholeLabel, Label] = {}
    only_vocabulary: bool = False
    prefix: Text = ""
    case: Literal["lower", "upper", "title"] | None = None

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
    with _named(path):
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


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file is wrong."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's among them
        raise ConfigError(f"{path}: {error}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    key = name if name.isprintable() else repr(name)
    if problem["type"] == "extra_forbidden":
        return f"{key} is no key of a policy{_suggestion(key)}"
    return f"{key}: {str(problem['msg']).removeprefix('Value error, ')}"


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, PolicyFile.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else f"; its keys are {', '.join(PolicyFile.model_fields)}"
