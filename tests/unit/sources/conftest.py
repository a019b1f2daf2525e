from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.s3 import S3UnderTest, running_s3


@pytest.fixture(scope="session")
def s3() -> Iterator[S3UnderTest]:
    with running_s3() as server:
        yield server
