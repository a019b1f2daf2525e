from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.tally import KEPT, Largest, Tally
from tagmill.worker.models import Json


def counted(lines: list[Json], base: str = "") -> Tally:
    tally = Tally(base)
    for line in lines:
        tally.add(line)
    return tally


def an_object(key: str, size: int | None = 1) -> Json:
    sized: Json = {} if size is None else {"size": size}
    return {"kind": "s3", "source": {"bucket": "b", "key": key, **sized}}


def a_file(path: str, size: int = 1) -> Json:
    return {
        "kind": "file",
        "source": {"path": path, "size": size, "location": f"file:///{path}", "mtime_ns": 0},
    }


def names(tally: Json, label: str) -> dict[str, int]:
    return {one[label]: one["images"] for one in tally["largest"]}


def test_images_are_counted_by_type_and_folder() -> None:
    keys = ["in/2024/a.JPG", "in/2024/b/c.jpg", "in/2025/a.png", "in/top.jpg", "in/2025/none", "in/x.tar/y"]
    tally = counted([an_object(key, 2) for key in keys], "in/")
    assert (tally.images, tally.bytes, tally.objects) == (6, 12, 6)
    assert names(tally.types.to_json("type"), "type") == {"jpg": 3, "none": 2, "png": 1}
    assert names(tally.folders.to_json("folder"), "folder") == {"2024/": 2, "2025/": 2, ".": 1, "x.tar/": 1}


def test_odd_endings_are_one_type() -> None:
    tally = counted([an_object(f"a.{ending}") for ending in ("jpg?x=1", "9f8e7d6c5b4a", "jp g", "é")])
    assert names(tally.types.to_json("type"), "type") == {"other": 4}


def test_sizes_are_classed_and_the_unknown_kept_apart() -> None:
    tally = counted(
        [a_file("a", 9_999), a_file("b", 10_000), a_file("c", 5_000_000_000), an_object("d", None)]
    )
    classes = [(one["from"], one["below"], one["images"]) for one in tally.size_classes() if one["images"]]
    assert classes == [(0, 10_000, 1), (10_000, 100_000, 1), (100_000_000, None, 1), (None, None, 1)]
    assert tally.bytes == 5_000_019_999


def test_handles_have_neither_name_nor_size() -> None:
    bad = {"kind": "bad_line", "source": {"list_name": "l", "line": 1, "reason": "no handle"}}
    tally = counted([{"kind": "handle", "source": {"handle": "h"}}, bad])
    assert (tally.images, tally.bad_lines, tally.objects, tally.unknown.images) == (2, 1, 0, 2)
    assert tally.types.to_json("type")["largest"] == tally.folders.to_json("folder")["largest"] == []


Runs = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=40, unique_by=lambda run: run[0])


@given(Runs, st.integers(1, 8), st.integers(1, 6))
def test_in_listing_order_the_largest_are_exact_and_nothing_is_lost(
    runs: list[tuple[int, int]], kept: int, shown: int
) -> None:
    largest, model = Largest(kept), Counter[str]()
    for folder, images in sorted(runs):
        for _ in range(images):
            largest.add(f"{folder:02d}/", 10)
            model[f"{folder:02d}/"] += 1

    said = largest.to_json("folder", min(shown, kept))

    expected = sorted(model.items(), key=lambda item: (-item[1], item[0]))[: min(shown, kept)]
    assert [(one["folder"], one["images"]) for one in said["largest"]] == expected
    assert sum(one["images"] for one in said["largest"]) + said["others"]["images"] == model.total()
    assert len(said["largest"]) + said["others"]["names"] == len(model)
    assert said["others"]["bytes"] == 10 * said["others"]["images"]


def test_a_million_folders_are_no_more_to_remember_than_a_few_thousand() -> None:
    largest: Any = Largest()
    for number in range(10 * KEPT):
        largest.add(f"{number}/", 1)
    assert len(largest._amounts) <= 2 * KEPT
