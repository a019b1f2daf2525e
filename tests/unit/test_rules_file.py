"""From a file to named rules; what is wrong is said in one line that names file, rule and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagmill.producer.rules_file import NAME_RULE, check_rules, read_rules
from tagmill.worker.errors import ConfigError, NotFoundError, RuleError
from tagmill.worker.rules import parse

TOML = """
[rules]
sky = 'tags.auto kex "sky"'
"no people" = '''
all(tags.auto nkex "person",
    tags.auto nkex "people: many")
'''
"""
TEXT = """\
# What is worth a look.

sky : tags.auto kex "sky"
  no people: all(tags.auto nkex "person", tags.auto nkex "people: many")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str | bytes, name: str) -> Path:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TOML, "rules.toml"),
        (TEXT, "rules.txt"),
        ("\ufeff" + TEXT.replace("\n", "\r\n"), "rules"),
        (TOML, "R.TOML"),
    ],
)
def test_both_kinds_of_file_say_the_same(text: str, name: str) -> None:
    assert read_rules(written(text, name)) == {
        "sky": parse('tags.auto kex "sky"'),
        "no people": parse('all(tags.auto nkex "person", tags.auto nkex "people: many")'),
    }


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        ("[rules]\nsky = 'tags.auto kex sky'", "r.toml", "r.toml: sky: column 15: write a value as JSON"),
        ("sky: tags.auto kex sky", "r.txt", "r.txt: sky: column 15: write a value as JSON"),
        ("sky:", "r.txt", "r.txt: sky: column 1: write a path"),
        ("\n\nsfw eq true", "r.txt", "r.txt: line 3: write a name, a colon and the rule"),
        ('tags.auto kex "a:b"', "r.txt", "r.txt: line 1: write a name, a colon and the rule"),
        ("a: b eq 1\na: b eq 2", "r.txt", "r.txt: a: there are two rules of this name"),
        ("sky!: sfw eq true", "r.txt", f"r.txt: 'sky!': {NAME_RULE}"),
        ("# nothing", "r.txt", "r.txt: there is no rule in it"),
        ("", "r.toml", "r.toml: there is no rule in it"),
        ("[rules]\n'' = 'sfw eq true'", "r.toml", f"r.toml: '': {NAME_RULE}"),
        (
            "sky = 'sfw eq true'",
            "r.toml",
            "r.toml: 'sky' has no place here: rules stand in",
        ),
        ("rules = 3", "r.toml", "r.toml: `rules` is to be a table: [rules]"),
        ("[rules]\nsky = true", "r.toml", "r.toml: sky: write the rule as text, in quotes"),
        ("[rules", "r.toml", "r.toml: Expected"),
        ("[rules]\nsky = " + "[" * 100_000, "r.toml", "r.toml: "),
        (b"sky: \xff", "r.txt", "r.txt: 'utf-8' codec"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str | bytes, name: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_rules(written(text, name))
    assert str(refused.value).startswith(complaint)
    assert str(refused.value).isprintable()


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"^no rules file gone\.toml$"):
        read_rules(Path("gone.toml"))
    with pytest.raises(ConfigError, match=r"^\.: Is a directory$"):
        read_rules(Path())


def test_a_check_goes_on_behind_what_is_wrong() -> None:
    found = check_rules(written("a: b is 1\nsky:tags.auto gte 1\nc:", "r.txt"))
    assert [type(named.rule) is RuleError for named in found] == [True, False, True]
    assert [named.to_json() for named in found[:2]] == [
        {"name": "a", "rule": "b is 1", "error": str(found[0].rule), "column": 3},
        {"name": "sky", "rule": "tags.auto gte 1", "documented": False},
    ]
