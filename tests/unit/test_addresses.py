from __future__ import annotations

import pytest

from tagmill.worker.addresses import names


@pytest.mark.parametrize(
    ("address", "known_by"),
    [
        ("https://h/a%3Fb.jpg", ["https://h/a%3Fb.jpg"]),
        ("https://h/a.jpg?X-Amz-Signature=0&X-Amz-Date=1", ["https://h/a.jpg"]),
        (
            "https://h/a.jpg?versionId=v%2F&X-Amz-Signature=0",
            ["https://h/a.jpg", "https://h/a.jpg?versionId=v%2F"],
        ),
        ("https://h/a.jpg?x&versionId=null", ["https://h/a.jpg", "https://h/a.jpg?versionId=null"]),
        ("src://alias/key", ["src://alias/key"]),
    ],
)
def test_of_a_query_nothing_but_the_version_is_kept(address: str, known_by: list[str]) -> None:
    assert list(names(address)) == known_by
