from __future__ import annotations

import pytest

from tagmill.worker.addresses import bare


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://b.s3.amazonaws.com/a%3Fb.jpg", "https://b.s3.amazonaws.com/a%3Fb.jpg"),
        ("https://h/a.jpg?X-Amz-Signature=0&X-Amz-Date=1", "https://h/a.jpg"),
        ("https://h/a.jpg?versionId=v1%2F&X-Amz-Signature=0", "https://h/a.jpg?versionId=v1%2F"),
        ("https://h/a.jpg?X-Amz-Date=1&versionId=null&x", "https://h/a.jpg?versionId=null"),
        ("src://alias/key", "src://alias/key"),
    ],
)
def test_of_a_query_only_the_version_stays(address: str, kept: str) -> None:
    assert bare(address) == kept
