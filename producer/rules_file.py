"""Named rules as people write them: a TOML file with a table `rules`, or a text file with a line for each.

[rules]                               # rules.toml
sky = 'tags.auto kex "sky"'

sky: tags.auto kex "sky"              # rules.txt
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.producer.text_file import read_text
from tagmill.worker.errors import ConfigError, RuleError
from tagmill.worker.models import Json
from tagmill.worker.rules import Rule, parse

TOML_SUFFIX = ".toml"
NAME_RULE = "a name is 1 to 100 letters, digits, spaces, `_`, `-` and `.`"
_NAME = re.compile(r"\w[\w .-]{0,99}")
_LINE = re.compile(r"(?P<name>[^:\"]+?)\s*:(?P<rule>.*)")


@dataclass(frozen=True, slots=True)
class Named:
    """One rule of a file, as it stands there and as what it says or what is wrong with it."""

    name: str
    text: str
    rule: Rule | RuleError

    def to_json(self) -> Json:
        if isinstance(self.rule, RuleError):
            return {"name": self.name, "rule": self.text, "error": str(self.rule), "column": self.rule.column}
        return {"name": self.name, "rule": str(self.rule), "documented": self.rule.documented}


def read_rules(path: Path) -> dict[str, Rule]:
    """Raise `NotFoundError` or `ConfigError`: one line that names file, rule and column."""
    rules: dict[str, Rule] = {}
    for named in check_rules(path):
        if isinstance(named.rule, RuleError):
            raise named.rule
        rules[named.name] = named.rule
    return rules


def check_rules(path: Path) -> list[Named]:
    """Return all rules, wrong ones too. Raise as `read_rules` does for a file that is wrong as a whole."""
    try:
        text = read_text(path, "rules file")
        pairs = _of_toml(text) if path.suffix.lower() == TOML_SUFFIX else _of_lines(text)
        return [Named(name, text, _parsed(path, name, text)) for name, text in _checked(pairs).items()]
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's among them
        raise ConfigError(f"{path}: {error}") from None


def _parsed(path: Path, name: str, text: str) -> Rule | RuleError:
    try:
        return parse(text)
    except RuleError as error:
        return RuleError(f"{path}: {name}: {error}", column=error.column, excerpt=error.excerpt)


def _of_toml(text: str) -> Iterable[tuple[str, Any]]:
    said = tomllib.loads(text)
    if others := said.keys() - {"rules"}:
        raise ValueError(f"{min(others)!r} has no place here: rules stand in the table `rules`")
    rules = said.get("rules", {})
    if not isinstance(rules, Mapping):
        raise ValueError("`rules` is to be a table: [rules]")  # noqa: TRY004 - the user's, not a caller's
    return rules.items()


def _of_lines(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ValueError(f"line {number}: write a name, a colon and the rule")
            yield match["name"], match["rule"].strip()


def _checked(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    rules: dict[str, str] = {}
    for name, text in pairs:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r}: {NAME_RULE}")
        if name in rules:
            raise ValueError(f"{name}: there are two rules of this name")
        if not isinstance(text, str):
            raise ValueError(f"{name}: write the rule as text, in quotes")  # noqa: TRY004 - as above
        rules[name] = text
    if not rules:
        raise ValueError("there is no rule in it")
    return rules
