"""The rule language: `tags.auto kex "sky"`. Pure: a text becomes a frozen rule, which data match or not.

    rule       = comparison | ("all" | "any") "(" rule {"," rule} ")"
    comparison = path operator value
    path       = segment {"." segment}
    segment    = letters, digits, `_` and `-`, or a JSON string
    operator   = eq | neq | kex | nkex | gt | gte | lt | lte | in | nin
    value      = JSON

Filestack documents `path operator value` with `eq`, `neq` and `kex`
(https://www.filestack.com/docs/concepts/tasks/tagging/, https://www.filestack.com/docs/concepts/workflows/);
all else is ours, and so is what the operators mean where its pages are silent: see docs/rules.md.
"""

from __future__ import annotations

import json
import math
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tagmill.worker.errors import RuleError

MOST_LEVELS = 20  #: of groups in groups, and of arrays and objects in a value
_MISSING = object()  #: what stands where a path leads nowhere: no JSON, so that nothing holds of it


class Operator(StrEnum):
    EQ = "eq"
    NEQ = "neq"
    KEX = "kex"
    NKEX = "nkex"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NIN = "nin"


DOCUMENTED = frozenset({Operator.EQ, Operator.NEQ, Operator.KEX})


class Join(StrEnum):
    ALL = "all"
    ANY = "any"


# --- rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    path: tuple[str, ...]
    operator: Operator
    literal: str  #: the value as canonical JSON, which tells `1` from `true` where Python's `==` does not
    value: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", json.loads(self.literal))

    def matches(self, data: Mapping[str, Any]) -> bool:
        """`data` is as a JSON parser returns it. Where its path leads nowhere, only a negation matches."""
        holds, wanted = _MEANINGS[self.operator]
        return holds(self._find(data), self.value) is wanted

    @property
    def documented(self) -> bool:
        """Whether Filestack documents every part of it."""
        return self.operator in DOCUMENTED and all(map(_PLAIN.fullmatch, self.path))

    def _find(self, data: Any) -> Any:
        """Follow keys of objects; an array has none."""
        for segment in self.path:
            if not isinstance(data, dict) or segment not in data:
                return _MISSING
            data = data[segment]
        return data

    def __str__(self) -> str:
        segments = (one if _PLAIN.fullmatch(one) else _canonical(one) for one in self.path)
        return f"{'.'.join(segments)} {self.operator} {self.literal}"


@dataclass(frozen=True, slots=True)
class Group:
    join: Join
    rules: tuple[Rule, ...]  #: at least one

    def matches(self, data: Mapping[str, Any]) -> bool:
        return _JOINS[self.join](rule.matches(data) for rule in self.rules)

    @property
    def documented(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.join}({', '.join(map(str, self.rules))})"


Rule = Comparison | Group  #: `str()` is its canonical text, which parses to an equal rule


def parse(text: str) -> Rule:
    """Raise `RuleError`."""
    return _Parser(text).whole()


def data_of(tags: Any, results: Mapping[str, Any]) -> dict[str, Any]:
    """What a rule sees of an image: paths start inside the `data` of a task's result, as in a Workflow.

    `tags` are those of the answer. Where two tasks answer with the same key it is the earlier one's; under
    `results` each stands by its name.
    """
    told = (one.get("data") for one in results.values() if isinstance(one, dict))
    answered = [data for data in told if isinstance(data, dict)]
    merged = {key: value for data in reversed(answered) for key, value in data.items()}
    return {**merged, "tags": tags, "results": results}


# --- what the operators mean ------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(found: Any, value: Any) -> bool:
    """Type and value; integers and floats are one type."""
    if _is_number(found) and _is_number(value):
        return bool(found == value)
    if type(found) is not type(value):
        return False
    if isinstance(found, list):
        return len(found) == len(value) and all(map(_same, found, value))
    if isinstance(found, dict):
        return found.keys() == value.keys() and all(_same(found[key], value[key]) for key in found)
    return bool(found == value)


def _has(found: Any, value: Any) -> bool:
    """A key of an object, an element of an array, a part of a text."""
    if isinstance(found, list):
        return any(_same(element, value) for element in found)
    return isinstance(found, dict | str) and isinstance(value, str) and value in found


def _is_in(found: Any, value: Any) -> bool:
    return any(_same(found, element) for element in value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda found, value: _is_number(found) and compare(found, value)


_JOINS = {Join.ALL: all, Join.ANY: any}
_MEANINGS: Mapping[Operator, tuple[Callable[[Any, Any], bool], bool]] = {
    Operator.EQ: (_same, True),
    Operator.NEQ: (_same, False),
    Operator.KEX: (_has, True),
    Operator.NKEX: (_has, False),
    Operator.GT: (_ordered(operator.gt), True),
    Operator.GTE: (_ordered(operator.ge), True),
    Operator.LT: (_ordered(operator.lt), True),
    Operator.LTE: (_ordered(operator.le), True),
    Operator.IN: (_is_in, True),
    Operator.NIN: (_is_in, False),
}  #: what is asked, and the answer that fulfils the rule


# --- from a text ------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[\w-]+")  #: a path segment that needs no quotes
_SPACE = re.compile(r"\s*")
_GROUP = re.compile(r"(all|any)\s*\(")
_WORD = re.compile(r'[^\s"(),\[\]{}]+')
_LISTS = frozenset({Operator.IN, Operator.NIN})
_ORDERS = frozenset({Operator.GT, Operator.GTE, Operator.LT, Operator.LTE})
_AROUND = 60  #: characters of a rule shown before and behind what is wrong with it
_TOO_DEEP = f"more than {MOST_LEVELS} arrays and objects in each other"
_NO_VALUE = 'write a value as JSON, text in double quotes: 80, true, "sky"'


def _finite(text: str) -> float:
    """Raise ValueError for what JSON does not have: infinity, and NaN, which Python's parser would take."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Rule:
        rule = self._rule(MOST_LEVELS)
        if self._skip_space() < len(self._text):
            raise self._wrong("the rule should end here; rules are joined as all(…, …) or any(…, …)")
        return rule

    def _rule(self, levels: int) -> Rule:
        self._skip_space()
        group = _GROUP.match(self._text, self._at)
        return self._group(group, levels) if group else self._comparison()

    def _group(self, head: re.Match[str], levels: int) -> Group:
        if not levels:
            raise self._wrong(f"more than {MOST_LEVELS} groups in each other")
        self._at = head.end()
        rules = [self._rule(levels - 1)]
        while self._take(","):
            rules.append(self._rule(levels - 1))
        if not self._take(")"):
            raise self._wrong("write `,` and another rule, or `)`")
        return Group(Join(head[1]), tuple(rules))

    def _comparison(self) -> Comparison:
        path = [self._segment()]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._segment())
        asked = self._operator()
        return Comparison(tuple(path), asked, self._literal(asked))

    def _segment(self) -> str:
        if self._text.startswith('"', self._at):
            segment, self._at = self._json()
            return str(segment)
        plain = _PLAIN.match(self._text, self._at)
        if plain is None:
            raise self._wrong('write a path, such as tags.auto or tags.auto."no person"')
        self._at = plain.end()
        return plain[0]

    def _operator(self) -> Operator:
        word = _WORD.match(self._text, self._skip_space())
        if word is None:
            raise self._wrong(f"write an operator: {', '.join(Operator)}")
        try:
            asked = Operator(word[0])
        except ValueError:
            raise self._wrong(f"{_shown(word[0])} is no operator; there are {', '.join(Operator)}") from None
        self._at = word.end()
        return asked

    def _literal(self, asked: Operator) -> str:
        self._skip_space()
        value, end = self._json()
        if asked in _LISTS and not isinstance(value, list):
            raise self._wrong(f'{asked} needs an array, such as ["sky", "sea"]')
        if asked in _ORDERS and not _is_number(value):
            raise self._wrong(f"{asked} needs a number")
        self._at = end
        return _canonical(value)

    def _json(self) -> tuple[Any, int]:
        """Return the value that begins here, and where it ends."""
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._wrong(_NO_VALUE if error.msg == "Expecting value" else error.msg) from None
        except ValueError:
            raise self._wrong("no finite number, or too long a one") from None
        except RecursionError:
            raise self._wrong(_TOO_DEEP) from None
        if not _fits(value, MOST_LEVELS):
            raise self._wrong(_TOO_DEEP)
        return value, end

    def _take(self, character: str) -> bool:
        found = self._text.startswith(character, self._skip_space())
        self._at += found
        return found

    def _skip_space(self) -> int:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._at

    def _wrong(self, reason: str) -> RuleError:
        start = self._text.rfind("\n", 0, self._at) + 1
        line, column = self._text.count("\n", 0, start) + 1, self._at - start + 1
        where = f"line {line}, column {column}" if "\n" in self._text else f"column {column}"
        shown = self._text[start:].partition("\n")[0]
        return RuleError(f"{where}: {reason}", column=column, excerpt=_pointed(shown, column))


def _fits(value: Any, levels: int) -> bool:
    """Whether it is nested no deeper than that."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is None or (levels > 0 and all(_fits(one, levels - 1) for one in inner))


def _canonical(value: Any) -> str:
    """One line that a terminal and a file can hold, whatever is in it."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if text.isprintable() else json.dumps(value, sort_keys=True)


def _shown(word: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in word)


def _pointed(line: str, column: int) -> str:
    """The line, or what stands around the column, and below it a caret."""
    at = column - 1
    before, behind = (_shown(line[cut]) for cut in (slice(max(0, at - _AROUND), at), slice(at, at + _AROUND)))
    width = sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in before)
    return f"{before}{behind}\n{' ' * width}^"
