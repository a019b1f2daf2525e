"""How many images each rule matches: counted over a run's rows, those without an answer apart."""

from __future__ import annotations

import orjson
from fakes.rows import ROWS, a_row
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.rule_matches import RuleMatches
from tagmill.worker.models import Json
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rules import data_of, parse

RULES = {
    "sky": parse('tags.auto kex "sky"'),
    "no sky": parse('tags.auto nkex "sky"'),
    "safe": parse("sfw eq true"),
}
GERMAN = TagPolicy(vocabulary={"sky": "Himmel"}, min_confidence=5)
SAFE = {"sfw_1": {"data": {"sfw": True}}}
LIBRARY = [
    a_row(id="h0", raw_tags={"auto": {"sky": 97}, "user": None}, tags={"auto": {"Himmel": 97}, "user": None}),
    a_row(id="h1", raw_tags={"auto": {"Himmel": 97}, "user": None}, results=SAFE),
    a_row(id="h2", status="failed", raw_tags=None, tags=None),
    a_row(id="h3", raw_tags=None, tags=None, results=SAFE),
    a_row(id="h4", raw_tags={"auto": {"sky": 1}, "user": None}),
]


def matches(rows: list[Json], keep_examples: int = 5) -> RuleMatches:
    found = RuleMatches(RULES, {GERMAN.hash: GERMAN}, keep_examples)
    found.add_all(map(orjson.dumps, rows))
    return found


def test_images_are_counted_and_the_first_ones_named() -> None:
    assert matches(LIBRARY, keep_examples=1).to_json("a-run") == {
        "schema": 1,
        "run_id": "a-run",
        "images": 4,
        "unanswered": 1,
        "rules": [
            {"name": "sky", "rule": 'tags.auto kex "sky"', "images": 2, "examples": ["h0"]},
            {"name": "no sky", "rule": 'tags.auto nkex "sky"', "images": 2, "examples": ["h1"]},
            {"name": "safe", "rule": "sfw eq true", "images": 2, "examples": ["h1"]},
        ],
    }


def test_people_see_counts_shares_and_names() -> None:
    assert matches(LIBRARY, keep_examples=2).describe().splitlines()[:4] == [
        "4 images with an answer, 1 without",
        "       2  50%  sky",
        "               h0",
        "               h4",
    ]
    assert matches([]).describe().splitlines()[1] == "       0   0%  sky"


@given(st.lists(ROWS, max_size=5))
def test_every_row_is_an_image_with_or_without_an_answer(rows: list[Json]) -> None:
    found = matches(rows).to_json("a-run")
    answered = [row for row in rows if row["raw_tags"] is not None]
    assert (found["images"], found["unanswered"]) == (len(answered), len(rows) - len(answered))
    for said in found["rules"]:
        rule = parse(said["rule"])
        assert said["images"] == sum(
            rule.matches(data_of(row["raw_tags"], row["results"])) for row in answered
        )


def test_rules_see_the_tags_that_the_rows_own_policy_leaves_and_none_that_a_rule_added() -> None:
    raw = {"auto": {"sky": 97, "blur": 3}, "user": None}
    tags = {"auto": {"Himmel": 97, "sky": 100}, "user": None}
    found = matches([a_row(policy=GERMAN.hash, raw_tags=raw, tags=tags), a_row(raw_tags=raw)])
    assert [one["images"] for one in found.to_json("a-run")["rules"]] == [1, 1, 0]
