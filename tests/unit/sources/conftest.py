from __future__ import annotations

import pytest
from servers.s3 import S3UnderTest


@pytest.fixture
def s3(s3_server: S3UnderTest) -> S3UnderTest:
    return s3_server
