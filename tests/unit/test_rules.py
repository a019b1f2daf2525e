"""The rule language: what it says, what it refuses, and that texts, rules and answers belong together."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.errors import ConfigError, RuleError
from tagmill.worker.rules import (
    MOST_LEVELS,
    Group,
    Join,
    Operator,
    Rule,
    data_of,
    parse,
)

IMAGE = {
    "tags": {"auto": {"sky": 97, "trip (journey)": 81.5, "v1.0": 60}, "user": None},
    "sfw": False,
    "caption": "a bird on a branch",
    "labels": ["sky", 1, True, None, [2]],
    "all": 1,
}


def answer(rule: str) -> bool:
    return parse(rule).matches(IMAGE)


# --- what it means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        # As documented.
        ('tags.auto kex "sky"', True),
        ('tags.auto kex "Sky"', False),
        ('tags.auto kex "sk"', False),
        ("sfw eq false", True),
        ("sfw neq true", True),
        ('caption kex "bird"', True),
        ('caption kex "Bird"', False),
        # Types are never converted; integers and floats are one type.
        ('sfw eq "false"', False),
        ("sfw eq 0", False),
        ("all eq true", False),
        ("all eq 1.0", True),
        ("tags.user eq null", True),
        ("labels eq ['sky', 1, true, null, [2]]".replace("'", '"'), True),
        ("labels eq ['sky', true, true, null, [2]]".replace("'", '"'), False),
        ("labels eq ['sky']".replace("'", '"'), False),
        ('tags.auto eq {"sky": 97, "trip (journey)": 81.5, "v1.0": 60.0}', True),
        ('tags.auto eq {"sky": 97}', False),
        ('tags.auto eq {"sky": 97, "trip (journey)": 81.5, "v1.0": true}', False),
        # A key of an object, an element of an array, a part of a text, nothing of anything else.
        ("labels kex true", True),
        ("labels kex [2.0]", True),
        ("labels kex false", False),
        ("labels kex 2", False),
        ("tags.auto kex 97", False),
        ("caption kex 1", False),
        ("sfw kex false", False),
        ('tags.user kex "sky"', False),
        ('tags.user nkex "sky"', True),
        ('tags.auto nkex "sky"', False),
        # Order is for numbers.
        ("tags.auto.sky gt 96.9", True),
        ("tags.auto.sky gt 97", False),
        ("tags.auto.sky gte 97", True),
        ("tags.auto.sky lt 97", False),
        ("tags.auto.sky lte 97", True),
        ("sfw lt 1", False),
        ("caption gt 0", False),
        # Lists.
        ('caption in ["a cat", "a bird on a branch"]', True),
        ("all in [true, 1.0]", True),
        ("all in [true]", False),
        ("all nin [true]", True),
        ("all nin []", True),
        # Paths.
        ('tags.auto."trip (journey)" gte 80', True),
        ('tags.auto."v1.0" eq 60', True),
        ('"tags"."auto"."sky" eq 97', True),
        ("tags.auto.v1.0 eq 60", False),
        ("labels.0 eq 1", False),
        ("caption.length gt 0", False),
        # Groups.
        ("all(sfw eq false, all eq 1)", True),
        ("all(sfw eq false, all eq 2)", False),
        ("any(sfw eq true, all(all eq 1))", True),
        ("any(sfw eq true, all eq 2)", False),
        # Space is free.
        ('  all\n(\tsfw eq false\n,tags.auto kex"sky")  ', True),
    ],
)
def test_a_rule_matches_by_type_and_value(rule: str, matches: bool) -> None:  # noqa: FBT001 - a row of the table
    assert answer(rule) is matches


@pytest.mark.parametrize("asked", Operator)
@pytest.mark.parametrize("path", ["gone", "gone.deeper", "tags.auto.gone", "sfw.gone", "tags.user.gone"])
def test_where_a_path_leads_nowhere_only_negated_operators_match(path: str, asked: Operator) -> None:
    value = "[1]" if asked in {Operator.IN, Operator.NIN} else "1"
    assert answer(f"{path} {asked} {value}") is (asked in {Operator.NEQ, Operator.NKEX, Operator.NIN})


def test_what_filestack_documents_is_told_from_what_is_ours() -> None:
    assert parse('tags.auto kex "sky"').documented
    assert parse("sfw eq false").documented
    assert parse("sfw neq true").documented
    ours = ("a gte 1", "all(a eq 1)", 'a."no person" eq 1', 'a nkex "b"', "a in [1]")
    assert [rule for rule in ours if parse(rule).documented] == []


def test_spellings_of_one_rule_are_one_rule() -> None:
    spellings = ('a."b" eq{"x": 1, "y": [true]}', '\n"a".b  eq {"y":[true],"x":1}')
    assert {str(parse(spelling)) for spelling in spellings} == {'a.b eq {"x": 1, "y": [true]}'}


def test_a_rule_sees_results_as_a_workflow_returns_them() -> None:
    results = {
        "first": {"data": {"sfw": True, "tags": {"auto": {"not": 1}}}},
        "second": {"data": {"sfw": False, "caption": "a bird"}},
        "as file": {"url": "https://cdn.example/h"},
        "failed": {"data": None},
        "odd": None,
    }
    data = data_of({"auto": {"sky": 97}, "user": None}, results)
    matching = [
        'tags.auto kex "sky"',
        'tags.auto nkex "not"',
        "sfw eq true",
        'caption kex "bird"',
        "results.second.data.sfw eq false",
        "results.first.data.tags.auto.not eq 1",
    ]
    assert [rule for rule in matching if not parse(rule).matches(data)] == []


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "complaint", "caret"),
    [
        ("", "column 1: write a path", ""),
        ("tags.auto", "column 10: write an operator: eq, neq, kex,", "tags.auto"),
        ("tags. eq 1", "column 6: write a path", "tags."),
        ("tags[0] eq 1", "column 5: write an operator", "tags"),
        ("sfw is false", "column 5: is is no operator; there are eq, neq, kex,", "sfw "),
        ('sfw KEX "a"', "column 5: KEX is no operator", "sfw "),
        ("sfw eq", "column 7: write a value as JSON", "sfw eq"),
        ("tags.auto kex sky", "column 15: write a value as JSON, text in double quotes", "tags.auto kex "),
        ("a eq 'b'", "column 6: write a value as JSON", "a eq "),
        ('a eq "b', "column 6: Unterminated string", "a eq "),
        ("a eq NaN", "column 6: no finite number", "a eq "),
        ("a eq -Infinity", "column 6: no finite number", "a eq "),
        ("a eq 1e999", "column 6: no finite number", "a eq "),
        (f"a eq {'1' * 5000}", "column 6: no finite number, or too long a one", "a eq "),
        ("a eq 01", "column 7: the rule should end here", "a eq 0"),
        ("a eq 1 and b eq 2", "column 8: the rule should end here; rules are joined as all(", "a eq 1 "),
        ("all()", "column 5: write a path", "all("),
        ("all(a eq 1", "column 11: write `,` and another rule, or `)`", "all(a eq 1"),
        ("any(a eq 1,)", "column 12: write a path", "any(a eq 1,"),
        ('a gt "1"', "column 6: gt needs a number", "a gt "),
        ("a lte true", "column 7: lte needs a number", "a lte "),
        ("a in 1", "column 6: in needs an array", "a in "),
        ('a nin "b"', "column 7: nin needs an array", "a nin "),
        ("all(a eq 1,\n  b is 2)", "line 2, column 5: is is no operator", "  b "),
        ("東京 is 1", "column 4: is is no operator", "東京 "),
        ("a\u202e eq 1", "column 2: ? is no operator", "a"),
        (
            "a eq " + "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1),
            "column 6: more than 20 arrays",
            "a eq ",
        ),
        ("a eq " + "[" * 100_000, "column 6: more than 20 arrays", "a eq "),
        ("all(" * (MOST_LEVELS + 1), "column 81: more than 20 groups", "all(" * 15),
    ],
)
def test_what_is_no_rule_is_refused_with_its_column(rule: str, complaint: str, caret: str) -> None:
    with pytest.raises(RuleError, match=f"^{re.escape(complaint)}") as refused:
        parse(rule)
    shown, pointer = refused.value.excerpt.splitlines()
    assert shown.startswith(caret.replace("\u202e", "?"))
    assert pointer == " " * (len(caret) + caret.count("東") + caret.count("京")) + "^"


def test_the_error_is_the_users_and_survives_the_way_to_another_process() -> None:
    error = RuleError("column 5: no", column=5, excerpt="a\n^")
    assert isinstance(error, ConfigError)
    assert str(pickle.loads(pickle.dumps(error))) == "column 5: no"  # noqa: S301 - our own


# --- for any text, rule and image -------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # with half characters and control codes
KEYS = st.sampled_from(["tags", "auto", "sky", "a.b", "no person", ""]) | ANY_TEXT
NUMBERS = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, 1, 1.0, -0.0])
)
SCALARS = st.none() | st.booleans() | NUMBERS | KEYS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)
DATA = st.dictionaries(KEYS, VALUES, max_size=4)


def value_for(asked: Operator) -> st.SearchStrategy[Any]:
    if asked in {Operator.IN, Operator.NIN}:
        return st.lists(VALUES, max_size=3)
    return NUMBERS if asked in {Operator.GT, Operator.GTE, Operator.LT, Operator.LTE} else VALUES


def written(value: Any) -> str:
    """JSON with everything that is not plain escaped, keys in any order."""
    return json.dumps(value)


COMPARISONS = st.sampled_from(Operator).flatmap(
    lambda asked: st.builds(
        lambda path, value: (path, asked, value), st.lists(KEYS, min_size=1, max_size=3), value_for(asked)
    )
)


def text_of(comparison: tuple[list[str], Operator, Any]) -> str:
    path, asked, value = comparison
    return f"{'.'.join(map(written, path))} {asked} {written(value)}"


RULES: st.SearchStrategy[Rule] = st.recursive(
    COMPARISONS.map(text_of).map(parse),
    lambda inner: st.builds(Group, st.sampled_from(Join), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=6,
)


@given(RULES)
def test_the_canonical_text_is_one_line_that_says_the_same(rule: Rule) -> None:
    assert parse(str(rule)) == rule
    assert str(parse(str(rule))) == str(rule)
    assert str(rule).isprintable()
    assert hash(parse(str(rule))) == hash(rule)


def or_refused(text: str) -> Rule | None:
    try:
        return parse(text)
    except RuleError as error:
        refused = error
    assert str(refused).isprintable()
    assert len(refused.excerpt.splitlines()) == 2
    assert refused.column >= 1
    return None


WORDS = st.sampled_from(
    [
        *Operator,
        *Join,
        "(",
        ")",
        ",",
        ".",
        '"',
        " ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "1",
        "1e9",
        "true",
        "a",
        '"a"',
        "NaN",
    ]
)


@given(ANY_TEXT | st.lists(WORDS | ANY_TEXT, max_size=20).map("".join), DATA)
def test_no_text_raises_anything_else(text: str, data: dict[str, Any]) -> None:
    rule = or_refused(text)
    if rule is not None:
        assert rule.matches(data) in {True, False}
        assert parse(str(rule)) == rule


@given(RULES.map(str), st.data())
def test_a_rule_with_a_slip_is_refused_or_another_rule(rule: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rule)))
    or_refused(rule[:at] + data.draw(ANY_TEXT) + rule[at + data.draw(st.integers(0, 3)) :])


def typed(value: Any) -> Any:
    """Equal for Python where it is the same for a rule."""
    match value:
        case list():
            return ("array", [typed(one) for one in value])
        case dict():
            return ("object", {key: typed(one) for key, one in value.items()})
        case bool() | None | str():
            return (type(value), value)
    return ("number", value)


def key_exists(found: Any, value: Any) -> bool:
    match found:
        case dict():
            return isinstance(value, str) and value in list(found)
        case list():
            return typed(value) in [typed(one) for one in found]
        case str():
            return isinstance(value, str) and found.find(value) >= 0
    return False


def numbers(found: Any, value: Any, compare: Callable[[Any, Any], bool]) -> bool:
    return not isinstance(found, bool) and isinstance(found, int | float) and compare(found, value)


MODEL: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, value: typed(found) == typed(value),
    "kex": key_exists,
    "in": lambda found, value: typed(found) in [typed(one) for one in value],
    "gt": lambda found, value: numbers(found, value, lambda one, other: one > other),
    "gte": lambda found, value: numbers(found, value, lambda one, other: one >= other),
    "lt": lambda found, value: numbers(found, value, lambda one, other: one < other),
    "lte": lambda found, value: numbers(found, value, lambda one, other: one <= other),
}


def model(path: list[str], asked: str, value: Any, data: Any) -> bool:
    """A negated operator says the opposite, whatever there is; the others need something to be there."""
    if asked in {"neq", "nkex", "nin"}:
        return not model(path, asked[1:], value, data)
    if not path:
        return MODEL[asked](data, value)
    return isinstance(data, dict) and path[0] in data and model(path[1:], asked, value, data[path[0]])


@st.composite
def within(draw: st.DrawFn) -> tuple[tuple[list[str], Operator, Any], dict[str, Any]]:
    """Data, and a comparison that is likely to be about what is in it."""
    data = draw(DATA)
    path: list[str] = []
    found: Any = data
    while isinstance(found, dict) and found and (not path or draw(st.booleans())):
        path.append(draw(st.sampled_from(sorted(found))))
        found = found[path[-1]]
    asked = draw(st.sampled_from(Operator))
    near = value_for(asked)
    if asked in {Operator.IN, Operator.NIN}:
        near |= st.just([found])
    elif asked in {Operator.EQ, Operator.NEQ}:
        near |= st.just(found)
    elif asked in {Operator.KEX, Operator.NKEX} and isinstance(found, dict | list | str) and found:
        near |= st.sampled_from(list(found))
    return (path or ["gone"], asked, draw(near)), data


@given(within() | st.tuples(COMPARISONS, DATA))
def test_a_comparison_means_what_the_model_says(
    case: tuple[tuple[list[str], Operator, Any], dict[str, Any]],
) -> None:
    (path, asked, value), data = case
    assert parse(text_of((path, asked, value))).matches(data) is model(path, asked, value, data)


@given(RULES, RULES, DATA)
def test_groups_join_what_their_rules_say(one: Rule, other: Rule, data: dict[str, Any]) -> None:
    answers = [one.matches(data), other.matches(data)]
    assert parse(f"all({one}, {other})").matches(data) is all(answers)
    assert parse(f"any({one}, {other})").matches(data) is any(answers)
