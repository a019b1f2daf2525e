"""What another policy would change: images counted, labels lost, gained and renamed, a few shown."""

from __future__ import annotations

from collections import Counter

import orjson
from fakes.rows import ROWS, a_row
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.policy_diff import SHOWN, PolicyDiff
from tagmill.worker.models import Json
from tagmill.worker.policy import TagPolicy, TagRule
from tagmill.worker.rows import under_policy
from tagmill.worker.rules import parse

ANSWERS = [
    {"sky": 97, "blur": 41},
    {"automobile": 80, "car": 70},
    {"blur": 90},
    {},
]
POLICIES = st.sampled_from(
    [
        TagPolicy(),
        TagPolicy(min_confidence=50),
        TagPolicy(case="upper"),
        TagPolicy(prefix="ai:", max_tags=2),
        TagPolicy(vocabulary={"0": "zero", "1": "zero"}),
        TagPolicy(deny=("*",)),
        TagPolicy(rules=(TagRule(parse('tags.auto kex "0"'), add_tag="zero", label="numbered"),)),
    ]
)


UNLABELLED: Json = {"labels_before": [], "labels_after": []}


def diff(rows: list[Json], old: TagPolicy, new: TagPolicy, keep_examples: int = 5) -> PolicyDiff:
    found = PolicyDiff(new, {old.hash: old}, keep_examples)
    found.add_all(orjson.dumps(under_policy(row, old)) for row in rows)
    return found


def library(old: TagPolicy, new: TagPolicy) -> PolicyDiff:
    rows = [
        a_row(id=f"h{number}", raw_tags={"auto": auto, "user": None}) for number, auto in enumerate(ANSWERS)
    ]
    return diff([*rows, a_row(status="failed", tags=None, raw_tags=None)], old, new)


def test_images_and_labels_are_counted() -> None:
    found = library(TagPolicy(), TagPolicy(deny=("blur",), vocabulary={"automobile": "car", "sky": "Himmel"}))
    assert found.to_json("a-run") == {
        "schema": 1,
        "run_id": "a-run",
        "policy": found.policy.hash,
        "policies": {TagPolicy().hash: 4},
        "images": 4,
        "changed": 3,
        "emptied": 1,
        "tags_before": 5,
        "tags_after": 2,
        "gained": {},
        "lost": {"blur": 2, "automobile": 1},
        "renamed": [{"from": "sky", "to": "Himmel", "images": 1}],
        "labels_gained": {},
        "labels_lost": {},
        "examples": [
            {"id": "h0", "before": {"sky": 97, "blur": 41}, "after": {"Himmel": 97}, **UNLABELLED},
            {"id": "h1", "before": {"automobile": 80, "car": 70}, "after": {"car": 80}, **UNLABELLED},
            {"id": "h2", "before": {"blur": 90}, "after": {}, **UNLABELLED},
        ],
    }


def test_tags_and_labels_of_rules_are_counted_too() -> None:
    old = TagPolicy(rules=(TagRule(parse("tags.auto.car gte 1"), label="old"),))
    seen = TagRule(parse("tags.auto.car gte 1"), add_tag="vehicle", label="seen")
    unsafe = TagRule(parse("sfw eq false"), label="unsafe")
    rows = [
        a_row(id="h0", raw_tags={"auto": {"car": 90}, "user": None}),
        a_row(id="h1", raw_tags={"auto": {}, "user": None}, results={"s": {"data": {"sfw": False}}}),
        a_row(id="h2", raw_tags={"auto": {"sky": 90}, "user": None}),
    ]
    found = diff(rows, old, TagPolicy(rules=(seen, unsafe)))
    assert (found.changed, found.gained, found.lost) == (2, {"vehicle": 1}, {})
    assert (found.labels_gained, found.labels_lost) == ({"seen": 1, "unsafe": 1}, {"old": 1})
    assert found.describe().splitlines()[-4:] == [
        "  labels lost: old (1)",
        "  labels gained: seen (1), unsafe (1)",
        "  h0: car, [old] → car, vehicle, [seen]",
        "  h1: nothing → [unsafe]",
    ]


def test_a_name_that_the_former_policy_gave_is_renamed_too() -> None:
    found = library(TagPolicy(prefix="old:"), TagPolicy(prefix="new:", deny=("blur",)))
    assert found.renamed == {("old:sky", "new:sky"): 1, ("old:automobile", "new:automobile"): 1} | {
        ("old:car", "new:car"): 1
    }
    assert (found.lost, found.gained) == ({"old:blur": 2}, {})


def test_a_label_that_comes_back_is_gained() -> None:
    found = library(TagPolicy(min_confidence=75), TagPolicy(min_confidence=50))
    assert (found.changed, found.gained, found.lost, found.renamed) == (1, {"car": 1}, {}, {})


@given(st.lists(ROWS, max_size=4), POLICIES, POLICIES)
def test_every_lost_and_gained_label_of_every_image_is_accounted_for(
    rows: list[Json], old: TagPolicy, new: TagPolicy
) -> None:
    found = diff(rows, old, new)
    lost: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    changed = 0
    for row in rows:
        if row["raw_tags"] is not None:
            before, after = (set(under_policy(row, policy)["tags"]["auto"]) for policy in (old, new))
            lost.update(before - after)
            gained.update(after - before)
            changed += under_policy(row, old)["tags"] != under_policy(row, new)["tags"]
    assert found.changed == changed
    assert lost.keys() == found.lost.keys() | {old for old, _ in found.renamed}
    assert gained.keys() == found.gained.keys() | {new for _, new in found.renamed}
    assert found.tags_after - found.tags_before == gained.total() - lost.total()


@given(st.lists(ROWS, max_size=4), POLICIES)
def test_the_same_policy_changes_nothing(rows: list[Json], policy: TagPolicy) -> None:
    assert diff(rows, policy, policy).changed == 0


def test_people_are_shown_the_commonest() -> None:
    rows = [a_row(raw_tags={"auto": {f"label{number:02}": 50 for number in range(SHOWN + 3)}, "user": None})]
    said = diff(rows, TagPolicy(), TagPolicy(deny=("*",)), keep_examples=0).describe()
    assert said.splitlines() == [
        "1 of 1 images change; 1 would have no tags left",
        "  tags: 13 before, 0 after",
        f"  lost: {', '.join(f'label{number:02} (1)' for number in range(SHOWN))} and 3 more",
    ]
