"""A strict S3 for each module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from servers.s3_library import client_of
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: StrictS3UnderTest) -> S3Client:
    return client_of(server)
