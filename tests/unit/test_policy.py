"""What a tag policy makes of an answer: each rule, their order, and what holds for any policy at all."""

from __future__ import annotations

import json
import random
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.models import canonical_hash
from tagmill.worker.policy import TagPolicy, TagRule, folded
from tagmill.worker.rules import parse

ANSWER = {"sky": 97, "blur": 41, "No Person": 88, "automobile": 60.5, "car": 72}
LABELS = st.text(st.sampled_from("abAB ßéÉ*[x"), min_size=1, max_size=6) | st.text(min_size=1, max_size=9)
CONFIDENCES = st.integers(0, 100) | st.floats(0, 100)
RAW = st.dictionaries(LABELS, CONFIDENCES, max_size=9)
PATTERNS = st.lists(st.text(st.sampled_from("ab*?[x "), min_size=1, max_size=5).map(folded), max_size=4)
POLICIES = st.builds(
    TagPolicy,
    min_confidence=CONFIDENCES,
    min_confidence_for=st.dictionaries(LABELS.map(folded), CONFIDENCES, max_size=3),
    max_tags=st.none() | st.integers(1, 5),
    allow=PATTERNS.map(tuple),
    deny=PATTERNS.map(tuple),
    vocabulary=st.dictionaries(LABELS.map(folded), LABELS, max_size=4),
    only_vocabulary=st.booleans(),
    prefix=st.text(max_size=3),
    case=st.sampled_from([None, "lower", "upper", "title"]),
    rules=st.lists(
        st.builds(
            TagRule,
            st.sampled_from([parse('tags.auto kex "a"'), parse("sfw eq true"), parse("tags.auto.b gte 50")]),
            st.none() | LABELS,
            CONFIDENCES,
            st.none() | LABELS,
        ),
        max_size=3,
    ).map(tuple),
)


def kept(**rules: Any) -> dict[str, float]:
    return TagPolicy(**rules).labels(ANSWER)


# --- rules on the answers ---------------------------------------------------------------------------------


def judged(*rules: TagRule, results: Any = None, **steps: Any) -> tuple[dict[str, float], list[str]]:
    tags, labels = TagPolicy(rules=rules, **steps).judge({"auto": ANSWER, "user": None}, results or {})
    assert tags["user"] is None
    return tags["auto"], labels


def test_a_rule_that_matches_adds_a_tag_and_a_label() -> None:
    sky = TagRule(parse('tags.auto kex "sky"'), add_tag="outdoors", confidence=70, label="nature")
    sea = TagRule(parse('tags.auto kex "sea"'), add_tag="water", label="nature")
    assert judged(sky, sea) == ({**ANSWER, "outdoors": 70}, ["nature"])
    assert judged(sea) == (ANSWER, [])


def test_rules_see_other_tasks_and_the_tags_that_the_steps_leave_but_none_that_a_rule_adds() -> None:
    rules = [
        TagRule(parse('all(tags.auto kex "Himmel", tags.auto nkex "blur")'), add_tag="new"),
        TagRule(parse('tags.auto kex "new"'), label="never"),
        TagRule(parse("safe eq false"), label="unsafe"),
    ]
    results = {"s": {"data": {"safe": False}}, "failed": {"error": {}}}
    tags, labels = judged(*rules, results=results, min_confidence=50, vocabulary={"sky": "Himmel"})
    assert (tags["new"], labels) == (100, ["unsafe"])


def test_what_a_rule_adds_is_as_it_is_written_and_the_higher_confidence_counts() -> None:
    rules = [
        TagRule(parse("tags.auto.SKY gte 1"), add_tag="sky", confidence=5),
        TagRule(parse("tags.auto.SKY gte 1"), add_tag="SKY", confidence=5),
        TagRule(parse("tags.auto.SKY gte 1"), add_tag="sky", confidence=6),
    ]
    assert judged(*rules, case="upper", max_tags=1) == ({"SKY": 97, "sky": 6}, [])


def test_rules_are_a_set_and_part_of_the_hash() -> None:
    one = TagRule(parse("sfw   eq true"), label="safe")
    other = TagRule(parse("sfw eq false"), add_tag="unsafe", confidence=80.0)
    policies = [TagPolicy(rules=rules) for rules in ((one, other), (other, one, one))]
    assert policies[0].hash == policies[1].hash != TagPolicy(rules=(one,)).hash
    assert policies[0].to_json() == {
        "rules": [
            {"when": "sfw eq false", "add_tag": "unsafe", "confidence": 80},
            {"when": "sfw eq true", "label": "safe"},
        ]
    }


# --- one rule at a time -----------------------------------------------------------------------------------


def test_no_rule_changes_nothing_not_even_the_order() -> None:
    tags = {"auto": ANSWER, "user": ["mine"], "more": 1}
    assert TagPolicy().apply(tags) is tags
    assert TagPolicy().hash == canonical_hash({}) == "44136fa355b3678a"


def test_what_the_service_is_not_sure_of_goes() -> None:
    assert kept(min_confidence=72) == {"sky": 97, "No Person": 88, "car": 72}


def test_a_labels_own_minimum_counts_instead_of_the_general_one() -> None:
    assert kept(min_confidence=70, min_confidence_for={"sky": 98, "blur": 40}) == {
        "No Person": 88,
        "car": 72,
        "blur": 41,
    }


def test_the_most_confident_stay_and_of_equals_the_first_by_name() -> None:
    assert list(kept(max_tags=2)) == ["sky", "No Person"]
    assert TagPolicy(max_tags=2).labels({"c": 5, "b": 5, "a": 5}) == {"a": 5, "b": 5}


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("sky", {"sky"}),
        ("no*", {"No Person"}),
        ("*r*", {"blur", "No Person", "car"}),
        ("c?r", {"car"}),
        ("*", set(ANSWER)),
        ("[s]ky", set()),
        ("ky", set()),
    ],
)
def test_patterns_match_whole_labels_in_any_case(pattern: str, matched: set[str]) -> None:
    assert set(kept(allow=(pattern,))) == matched
    assert set(kept(deny=(pattern,))) == set(ANSWER) - matched


def test_what_is_denied_is_not_allowed() -> None:
    assert set(kept(allow=("sky", "c*"), deny=("car",))) == {"sky"}


def test_several_labels_of_one_term_are_one_with_the_highest_confidence() -> None:
    vocabulary = {"automobile": "Vehicle", "car": "Vehicle", "no person": "deserted"}
    assert kept(vocabulary=vocabulary) == {"sky": 97, "deserted": 88, "Vehicle": 72, "blur": 41}
    assert kept(vocabulary=vocabulary, only_vocabulary=True) == {"deserted": 88, "Vehicle": 72}


def test_a_term_may_be_the_name_of_another_label() -> None:
    assert kept(vocabulary={"automobile": "car"})["car"] == 72
    assert kept(vocabulary={"car": "automobile"})["automobile"] == 72


def test_spellings_of_a_label_are_found_in_the_vocabulary() -> None:
    policy = TagPolicy(vocabulary={folded("CAFÉ"): "coffee", folded("Straße"): "street"})
    assert policy.labels({"café": 1, "cafe\N{COMBINING ACUTE ACCENT}": 3, "STRASSE": 2}) == {
        "coffee": 3,
        "street": 2,
    }


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("lower", ["don't walk", "sky"]),
        ("upper", ["DON'T WALK", "SKY"]),
        ("title", ["Don't Walk", "Sky"]),
        (None, ["don't Walk", "sKY"]),
    ],
)
def test_names_are_written_in_the_case_that_is_asked_for(case: str | None, names: list[str]) -> None:
    assert list(TagPolicy(case=case).labels({"don't Walk": 9, "sKY": 5})) == names


def test_names_that_differ_in_nothing_any_more_are_one() -> None:
    assert TagPolicy(case="lower").labels({"Sky": 3, "sky": 5, "SKY": 4}) == {"sky": 5}


def test_a_prefix_stands_before_every_name() -> None:
    assert list(kept(prefix="ai:", max_tags=1)) == ["ai:sky"]


# --- their order ------------------------------------------------------------------------------------------


def test_after_the_vocabulary_everything_speaks_of_terms() -> None:
    vocabulary = {"automobile": "Vehicle", "car": "Vehicle"}
    assert "Vehicle" not in kept(vocabulary=vocabulary, deny=("vehicle",))
    assert "Vehicle" in kept(vocabulary=vocabulary, deny=("car", "automobile"))
    assert "Vehicle" in kept(vocabulary=vocabulary, allow=("vehicle",))
    assert "Vehicle" not in kept(vocabulary=vocabulary, min_confidence_for={"vehicle": 73})


def test_case_and_prefix_come_after_the_lists_and_before_the_maximum() -> None:
    assert kept(prefix="ai:", case="upper", deny=("sky",), allow=("*",), max_tags=1) == {"ai:NO PERSON": 88}
    merged = TagPolicy(case="lower", max_tags=2).labels({"Sky": 9, "sky": 8, "sea": 7})
    assert merged == {"sky": 9, "sea": 7}


# --- any policy, any answer -------------------------------------------------------------------------------


@given(POLICIES, RAW, st.randoms(use_true_random=False))
def test_the_order_of_an_answer_does_not_matter(
    policy: TagPolicy, raw: dict[str, float], chance: random.Random
) -> None:
    pairs = list(raw.items())
    chance.shuffle(pairs)
    assert list(policy.labels(raw).items()) == list(TagPolicy.labels(policy, dict(pairs)).items())


@given(POLICIES, RAW)
def test_tags_are_ranked_within_the_maximum_and_each_confidence_was_answered(
    policy: TagPolicy, raw: dict[str, float]
) -> None:
    labels = policy.labels(raw)
    assert sorted(labels.items(), key=lambda item: (-item[1], item[0])) == list(labels.items())
    assert len(labels) <= min(len(raw), policy.max_tags or len(raw))
    assert set(labels.values()) <= set(raw.values())
    assert all(name.startswith(policy.prefix) for name in labels)


@given(POLICIES, RAW)
def test_every_tag_comes_from_a_label_that_meets_its_rules(policy: TagPolicy, raw: dict[str, float]) -> None:
    for name, confidence in policy.labels(raw).items():
        origins = [label for label in raw if policy.destiny(label)[0] == name]
        assert confidence == max(raw[label] for label in origins)
        for label in origins:
            term = folded(policy.vocabulary.get(folded(label), label))
            assert confidence >= policy.min_confidence_for.get(term, policy.min_confidence)
            assert not any(matches(pattern, term) for pattern in policy.deny)
            assert not policy.allow or any(matches(pattern, term) for pattern in policy.allow)
            assert not policy.only_vocabulary or folded(label) in policy.vocabulary


def matches(pattern: str, term: str) -> bool:
    return fnmatchcase(term, pattern.replace("[", "[[]"))


@given(POLICIES, RAW, LABELS, CONFIDENCES)
def test_without_a_maximum_one_more_label_takes_no_tag_away(
    policy: TagPolicy, raw: dict[str, float], label: str, confidence: float
) -> None:
    unlimited = TagPolicy(**{**vars_of(policy), "max_tags": None})
    before, after = (
        unlimited.labels(raw),
        unlimited.labels({**raw, label: max(confidence, raw.get(label, 0))}),
    )
    assert before.keys() <= after.keys()
    assert all(after[name] >= confidence for name, confidence in before.items())


@given(POLICIES, POLICIES)
def test_the_hash_is_that_of_the_canonical_text_which_reads_back_the_same(
    policy: TagPolicy, other: TagPolicy
) -> None:
    text = json.dumps(policy.to_json())
    again = TagPolicy.from_json(json.loads(text))
    assert (again.hash, json.dumps(again.to_json())) == (policy.hash, text)
    assert policy.hash == canonical_hash(policy.to_json())
    assert (policy.hash == other.hash) == (policy.to_json() == other.to_json())


@given(POLICIES, RAW)
def test_a_policy_read_back_does_the_same(policy: TagPolicy, raw: dict[str, float]) -> None:
    again = TagPolicy.from_json(json.loads(json.dumps(policy.to_json())))
    assert again.labels(raw) == policy.labels(raw)


@given(POLICIES, RAW, st.none() | st.text())
def test_what_the_service_did_not_say_passes_as_it_is(
    policy: TagPolicy, raw: dict[str, float], user: str | None
) -> None:
    answered = {"auto": raw, "user": user, "captions": [1]}
    assert {**policy.apply(answered), "auto": None} == {"auto": None, "user": user, "captions": [1]}
    assert answered["auto"] is raw


def vars_of(policy: TagPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TagPolicy(min_confidence=60), TagPolicy(min_confidence=60.0)),
        (TagPolicy(deny=("a", "b")), TagPolicy(deny=("b", "a", "b"))),
        (TagPolicy(vocabulary={"a": "x", "b": "y"}), TagPolicy(vocabulary={"b": "y", "a": "x"})),
        (TagPolicy(), TagPolicy(min_confidence=0.0, prefix="", allow=())),
    ],
)
def test_equal_policies_have_equal_hashes_however_they_are_written(one: TagPolicy, other: TagPolicy) -> None:
    assert one.hash == other.hash
