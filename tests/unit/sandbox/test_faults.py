"""Which request meets which fault."""

from __future__ import annotations

import pytest

from tagmill.sandbox.faults import (
    DELIVERY,
    EVENT,
    INSTEAD,
    JOB,
    ODD_DATA,
    TRIMMED,
    Fault,
    FaultRule,
    Faults,
    Operation,
    faults_of,
)

TAGS = Operation.TAGS


def fired(faults: Faults, *images: str) -> list[bool]:
    return [faults.pick(TAGS, image) is not None for image in images]


def rule(**fields: object) -> FaultRule:
    return FaultRule.from_json({"fault": "500", **fields})


def test_every_fault_has_exactly_one_place() -> None:
    assert sorted([*INSTEAD, *DELIVERY, *ODD_DATA, *JOB, *TRIMMED, *EVENT]) == sorted(Fault)


def test_every_fault_is_for_some_operation() -> None:
    assert frozenset().union(*map(faults_of, Operation)) == frozenset(Fault)


def test_a_rule_without_conditions_always_fires() -> None:
    assert fired(Faults([rule()]), "a", "b", "a") == [True, True, True]


def test_images_are_picked_by_name() -> None:
    assert fired(Faults([rule(images=["a"])]), "a", "b", "a") == [True, False, True]


def test_every_nth_request_is_picked() -> None:
    assert fired(Faults([rule(every=3)]), *"abcdef") == [False, False, True, False, False, True]


def test_the_first_requests_of_each_image_are_picked() -> None:
    assert fired(Faults([rule(first=1)]), "a", "a", "b", "b") == [True, False, True, False]


def test_a_rule_ends_after_so_many_times() -> None:
    assert fired(Faults([rule(times=2)]), "a", "b", "c") == [True, True, False]


def test_the_first_rule_that_fires_wins() -> None:
    faults = Faults([rule(fault="404", images=["a"]), rule(fault="500")])
    picked = [faults.pick(TAGS, image) for image in "ab"]
    assert [one.fault for one in picked if one] == [Fault.NOT_FOUND, Fault.SERVER_ERROR]


def test_other_operations_are_left_alone() -> None:
    faults = Faults([rule(operation="store")])
    assert faults.pick(Operation.TAGS, "a") is None
    assert faults.pick(Operation.STORE, "") is not None


def test_chance_is_about_as_frequent_as_asked() -> None:
    images = [f"image{number}" for number in range(1_000)]
    assert 250 < sum(fired(Faults([rule(probability=0.3)]), *images)) < 350


def test_chance_depends_on_the_seed_and_not_on_the_order() -> None:
    images = [f"image{number}" for number in range(50)]
    forward = fired(Faults([rule(probability=0.5)], seed=1), *images)
    backward = fired(Faults([rule(probability=0.5)], seed=1), *reversed(images))
    assert forward == list(reversed(backward))
    assert forward != fired(Faults([rule(probability=0.5)], seed=2), *images)


def test_counting_can_start_over() -> None:
    faults = Faults([rule(times=1)])
    assert fired(faults, "a", "a") == [True, False]
    faults.restart()
    assert fired(faults, "a") == [True]


@pytest.mark.parametrize(
    "fields",
    [
        {"fault": "418"},
        {"fault": "nan", "operation": "store"},
        {"fault": "job_stuck"},
        {"fault": "nan", "operation": "sfw"},
        {"fault": "500", "operation": "webhook"},
        {"fault": "late", "operation": "run_workflow"},
        {"operation": "other"},
        {"every": 0},
        {"probability": 1.5},
        {"chance": 0.5},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        rule(**fields)


def test_a_rule_needs_a_fault() -> None:
    with pytest.raises(ValueError, match="needs a fault"):
        FaultRule.from_json({"every": 2})


def test_a_rule_survives_json() -> None:
    one = rule(images=["a"], every=2, charged=True)
    assert FaultRule.from_json(one.to_json()) == one
