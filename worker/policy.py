"""The tag policy: which of an answer's labels a library wants, and what it calls them. Pure; costs no call.

`apply` takes the labels of an answer through these steps:

1. `vocabulary`: a label becomes your term; `only_vocabulary` drops labels without one.
2. `deny`, `allow`: what `deny` matches goes, and what an `allow` list does not match.
3. `min_confidence_for` the label, else `min_confidence`: what is below goes.
4. `case`, then `prefix`: the name as it is written. Equal names are one, with the highest confidence.
5. `max_tags`: the most confident stay, of equals the first by name.

`judge` then asks its rules, each on what these steps left: those that match add tags and labels of their own.

Comparing ignores case, and after step 1 everything speaks of your terms.
"""

from __future__ import annotations

import fnmatch
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

from tagmill.worker.models import Json, TagSets, canonical_hash
from tagmill.worker.rules import Rule, data_of, parse

FILTERED = "filtered"  #: flag: the service named labels, and the policy let none of them through
_CASES: dict[str | None, Callable[[str], str]] = {
    None: str,
    "lower": str.lower,
    "upper": str.upper,
    "title": lambda label: string.capwords(label, " "),
}
_REMEMBERED = 1 << 16  #: labels: a service's vocabulary has some thousands
CERTAIN = 100  #: confidence of a tag that a rule adds, unless it says another


@dataclass(frozen=True, slots=True)
class TagRule:
    """What the images get that a rule matches."""

    when: Rule
    add_tag: str | None = None
    confidence: float = CERTAIN  #: of the tag
    label: str | None = None  #: of the row, beside its tags

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TagRule:
        return cls(**{**value, "when": parse(value["when"])})

    def to_json(self) -> Json:
        confidence = None if self.add_tag is None or self.confidence == CERTAIN else self.confidence
        said = {"add_tag": self.add_tag, "confidence": _canonical(confidence), "label": self.label}
        return {"when": str(self.when), **{name: one for name, one in said.items() if one is not None}}


@dataclass(frozen=True)
class TagPolicy:
    """Patterns and the keys of both mappings are `folded`. The default changes nothing."""

    min_confidence: float = 0
    min_confidence_for: Mapping[str, float] = field(default_factory=dict)
    max_tags: int | None = None
    allow: tuple[str, ...] = ()  #: patterns: `*` is any text, `?` one character; none: all are allowed
    deny: tuple[str, ...] = ()
    vocabulary: Mapping[str, str] = field(default_factory=dict)  #: label -> your term
    only_vocabulary: bool = False
    prefix: str = ""
    case: str | None = None  #: lower, upper or title; None: as it comes
    rules: tuple[TagRule, ...] = ()  #: in any order: none sees what another one adds

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TagPolicy:
        """Read what `to_json` wrote."""
        patterns = {name: tuple(value.get(name, ())) for name in ("allow", "deny")}
        rules = tuple(map(TagRule.from_json, value.get("rules", ())))
        return cls(**{**value, **patterns, "rules": rules})

    def to_json(self) -> Json:
        """Only what differs from the default, in one way of writing: equal policies have equal hashes."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: _canonical(value) for name, value in values.items() if value}

    @cached_property
    def hash(self) -> str:
        """The `policy` of a row."""
        return canonical_hash(self.to_json())

    def judge(self, raw: TagSets, results: Mapping[str, Any]) -> tuple[TagSets, list[str]]:
        """Return a row's `tags` and `labels` for its `raw_tags` and `results`."""
        tags = self.apply(raw)
        if not self.rules:
            return tags, []
        data = data_of(tags, results)
        matching = [rule for rule in self.rules if rule.when.matches(data)]
        auto = dict(tags["auto"])
        for rule in matching:
            if rule.add_tag is not None:
                auto[rule.add_tag] = max(rule.confidence, auto.get(rule.add_tag, 0))
        return {**tags, "auto": auto}, sorted({rule.label for rule in matching if rule.label is not None})

    def apply(self, tags: TagSets) -> TagSets:
        """Take an answer's labels through the steps; what others than the service said passes as it is."""
        return tags if self._changes_nothing else {**tags, "auto": self.labels(tags["auto"])}

    def labels(self, raw: Mapping[str, float]) -> dict[str, float]:
        """Most confident first, equals by name."""
        best: dict[str, float] = {}
        for label, confidence in raw.items():
            name, least = self.destiny(label)
            if name is not None and confidence >= least:
                best[name] = max(confidence, best.get(name, confidence))
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[: self.max_tags])

    @cached_property
    def destiny(self) -> Callable[[str], tuple[str | None, float]]:
        """What a label is called and the confidence that it needs; None: it is dropped at any."""
        return lru_cache(_REMEMBERED)(self._destiny)

    def _destiny(self, label: str) -> tuple[str | None, float]:
        term = self.vocabulary.get(folded(label), None if self.only_vocabulary else label)
        if term is None or not self._lets_through(folded(term)):
            return None, 0
        name = self.prefix + _CASES[self.case](term)
        return name, self.min_confidence_for.get(folded(term), self.min_confidence)

    def _lets_through(self, term: str) -> bool:
        return not self._denied(term) and (not self.allow or self._allowed(term))

    @cached_property
    def _changes_nothing(self) -> bool:
        return not self.to_json().keys() - {"rules"}

    @cached_property
    def _denied(self) -> Callable[[str], bool]:
        return _matcher(self.deny)

    @cached_property
    def _allowed(self) -> Callable[[str], bool]:
        return _matcher(self.allow)


def folded(label: str) -> str:
    """What spellings of one label have in common: Unicode's canonical caseless matching."""
    if label.isascii():
        return label.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", label).casefold())


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Lists of thousands of plain names cost no more than short ones."""
    wild = {pattern for pattern in patterns if "*" in pattern or "?" in pattern}
    plain = set(patterns) - wild
    # A bracket is a plain character here. What `translate` returns never backtracks over more than one star.
    expression = re.compile("|".join(fnmatch.translate(one.replace("[", "[[]")) for one in sorted(wild)))
    return lambda term: term in plain or (bool(wild) and expression.match(term) is not None)


def _canonical(value: Any) -> Any:
    match value:
        case (TagRule(), *_):
            told = {str(one): one for one in (rule.to_json() for rule in value)}  # equal once told: one
            return [told[text] for text in sorted(told)]
        case tuple():
            return sorted(set(value))
        case Mapping():
            return {name: _canonical(inner) for name, inner in sorted(value.items())}
        case float() if value.is_integer():
            return int(value)
    return value
