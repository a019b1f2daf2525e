from __future__ import annotations

from tagmill.worker.sinks.s3_compare import changed


def test_a_count_of_no_tags_is_the_same_as_none() -> None:
    counted = {"etag": '"0"', "x-amz-tagging-count": "0"}
    assert changed(counted, {"etag": '"0"'}) == []
    assert changed({"etag": '"0"', "x-amz-tagging-count": "1"}, {"etag": '"0"'}) == ["x-amz-tagging-count"]
