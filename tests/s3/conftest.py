"""Tests of a bucket that somebody names: `make test-s3`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest
from servers.real_s3 import RealBucket, named_bucket

REAL = named_bucket()


def pytest_report_header() -> list[str]:
    """Say what was found out about the server: it decides how the sinks go about their work."""
    if REAL is None:
        return []
    found = asdict(REAL.found)
    return [
        f"s3://{found.pop('bucket')}/{REAL.prefix}",
        *(f"  {name}: {value}" for name, value in found.items()),
    ]


@pytest.fixture(scope="session")
def real() -> Iterator[RealBucket]:
    assert REAL is not None
    yield REAL
    REAL.clean_up()
