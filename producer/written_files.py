"""Files that people write for us: what is wrong with one is said in one line that names file and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tagmill.worker.errors import ConfigError, RuleError
from tagmill.worker.policy import CERTAIN, TagRule
from tagmill.worker.rules import Rule, parse

LONGEST_LABEL = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters have no place in a label")
    return text


def _visible(text: str) -> str:
    if not text.strip():
        raise ValueError("write at least one character that is no space")
    return text


Text = Annotated[str, Field(max_length=LONGEST_LABEL), AfterValidator(_printable)]
Label = Annotated[Text, AfterValidator(_visible)]
Confidence = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


WRITTEN = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class RuleEntry(BaseModel):
    """One of `[[rules]]`."""

    model_config = WRITTEN

    when: str
    add_tag: Label | None = None
    confidence: Confidence = CERTAIN
    label: Label | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.add_tag is None and self.label is None:
            raise ValueError("say what it does: add_tag, label, or both")
        if self.add_tag is None and "confidence" in self.model_fields_set:
            raise ValueError("confidence is that of a tag: say add_tag, too")
        return self

    def rule(self, name: str) -> TagRule:
        """Raise `RuleError`."""
        return TagRule(parsed(self.when, name), self.add_tag, self.confidence, self.label)


def rules_of(entries: Collection[RuleEntry]) -> tuple[TagRule, ...]:
    """Raise `RuleError`: it says which of them, from 1."""
    return tuple(entry.rule(f"rule {number}") for number, entry in enumerate(entries, 1))


def parsed(text: str, name: str) -> Rule:
    """Raise `RuleError` that names the rule."""
    try:
        return parse(text)
    except RuleError as error:
        raise RuleError(f"{name}: {error}", column=error.column, excerpt=error.excerpt) from None


@contextmanager
def named(path: Path, what: str, keys: Collection[str], inner: Collection[str]) -> Iterator[None]:
    """Raise `ConfigError` about the file for whatever is raised inside.

    It is a `what` and has these keys, the tables in it the `inner` ones.
    """
    try:
        yield
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error, what, keys, inner)}") from None
    except RuleError as error:
        raise RuleError(f"{path}: {error}", column=error.column, excerpt=error.excerpt) from None
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's among them
        raise ConfigError(f"{path}: {error}") from None


def _first_problem(error: ValidationError, what: str, keys: Collection[str], inner: Collection[str]) -> str:
    problems = error.errors(include_url=False, include_input=False)
    # A mistyped key also makes another one missing.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    name = ".".join(_place(part) for part in problem["loc"] if part != "[key]")
    key = name if name.isprintable() else repr(name)
    if problem["type"] == "extra_forbidden":
        known = keys if len(problem["loc"]) == 1 else inner
        return f"{key} is no key of a {what}{suggestion(str(problem['loc'][-1]), known)}"
    return f"{key}: {str(problem['msg']).removeprefix('Value error, ')}"


def _place(part: str | int) -> str:
    """A key, or of a list the number from 1."""
    return str(part + 1) if isinstance(part, int) else part


def suggestion(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
