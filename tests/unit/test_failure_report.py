"""What `tagmill failures` names of a failed image."""

from __future__ import annotations

import orjson
import pytest
from fakes.rows import a_row

from tagmill.producer.failures import Failures
from tagmill.producer.revision import FailureFilter
from tagmill.worker.models import Json


@pytest.mark.parametrize(
    ("source", "named", "keys"),
    [
        (
            {"bucket": "b", "version_id": "v1", "is_latest": False},
            "s3://b/k (version v1): gone",
            ["version_id"],
        ),
        ({"bucket": "b", "version_id": "v1"}, "s3://b/k: gone", []),
    ],
)
def test_one_of_several_versions_is_named_with_its_own_id(source: Json, named: str, keys: list[str]) -> None:
    error = {"class": "ImageNotFoundError", "code": "missing", "message": "gone"}
    failures = Failures(FailureFilter(), most=20)
    failures.add_all([orjson.dumps(a_row(id="s3://b/k", source=source, status="failed", error=error))])
    assert failures.describe().splitlines()[-1] == named
    assert list(failures.to_json("a-run")["images"][0]) == [
        "id",
        *keys,
        "status",
        "attempts",
        "calls",
        "error",
    ]
