from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.selection import EVERYTHING, limited, sample_hash, sample_threshold, sampled
from tagmill.producer.sources.base import Listed
from tagmill.worker.models import Handle, ImageRef


def image(number: int) -> Listed:
    return Listed(ImageRef(Handle(f"handle-{number:08d}")), {"line": number})


def passed_over(number: int) -> Listed:
    return Listed(None, {"line": number}, "empty")


def ids(items: list[Listed]) -> list[str]:
    return [item.ref.id for item in items if item.ref]


def drawn(items: list[Listed], size: int, seed: int) -> list[str]:
    return ids(list(sampled(items, sample_threshold(items, size, seed), seed)))


LIBRARY = [passed_over(number) if number % 7 == 3 else image(number) for number in range(500)]


@given(size=st.integers(1, 600), seed=st.integers(0, 2**32))
def test_a_sample_is_the_images_with_the_smallest_hashes_in_listing_order(size: int, seed: int) -> None:
    smallest = sorted(ids(LIBRARY), key=lambda image_id: sample_hash(image_id, seed))[:size]
    assert drawn(LIBRARY, size, seed) == [image_id for image_id in ids(LIBRARY) if image_id in smallest]


def test_a_sample_can_be_drawn_again_and_another_seed_draws_another() -> None:
    assert drawn(LIBRARY, 20, seed=1) == drawn(LIBRARY, 20, seed=1)
    assert drawn(LIBRARY, 20, seed=1) != drawn(LIBRARY, 20, seed=2)


def test_the_hash_stays_what_recorded_runs_were_planned_with() -> None:
    assert sample_hash("s3://bucket/a.jpg", 1) == 218_586_190_014_743
    assert sample_hash("s3://bucket/\udcff", 1) >= 0


def test_a_library_smaller_than_the_sample_is_taken_whole() -> None:
    assert sample_threshold(LIBRARY, 10_000, seed=1) == EVERYTHING
    assert drawn(LIBRARY, 10_000, seed=1) == ids(LIBRARY)


def test_what_is_not_sampled_is_passed_over_with_its_cursor() -> None:
    items = list(sampled(LIBRARY, sample_threshold(LIBRARY, 5, seed=1), seed=1))
    assert [item.cursor for item in items] == [item.cursor for item in LIBRARY]
    assert {item.skipped for item in items if not item.ref} == {"empty", "not_sampled"}


def test_sampling_can_go_on_after_any_item() -> None:
    threshold = sample_threshold(LIBRARY, 50, seed=9)
    whole = list(sampled(LIBRARY, threshold, seed=9))
    assert [*sampled(LIBRARY[:123], threshold, seed=9), *sampled(LIBRARY[123:], threshold, seed=9)] == whole


def test_a_limit_ends_right_after_its_last_image_and_asks_for_no_more() -> None:
    endless = (image(number) if number % 2 else passed_over(number) for number in count())
    assert [item.cursor["line"] for item in limited(endless, 3)] == [0, 1, 2, 3, 4, 5]
    assert next(endless).cursor == {"line": 6}


def test_a_limit_counts_what_was_planned_before() -> None:
    assert ids(list(limited(LIBRARY, 10, planned=8))) == ids(LIBRARY)[:2]
    assert list(limited(LIBRARY, 10, planned=10)) == []
    assert list(limited(LIBRARY, 10_000)) == LIBRARY
