"""What every test may rely on: a scrubbed environment, and servers shared by a session."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
from redis.asyncio import Redis
from servers.redis import RedisUnderTest, running_redis
from servers.s3 import S3UnderTest, running_s3

hypothesis.settings.register_profile("shared machine", deadline=None)  # other work may hold an example up
hypothesis.settings.load_profile("shared machine")


#: Tests of a bucket that somebody has to name: `make test-s3`.
collect_ignore = [] if os.environ.get("TAGMILL_TEST_S3_URI") else ["s3"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` starts: one more than there are cores, as many tests wait for processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, credential or proxy of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("TAGMILL_", "AWS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisUnderTest]:
    """A private Redis; tests keep to a prefix of their own."""
    with running_redis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisUnderTest) -> AsyncIterator[Redis]:
    async with redis_server.client() as client:
        yield client


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3UnderTest]:
    """Moto's S3 over HTTP; tests keep to a bucket of their own."""
    with running_s3() as server:
        yield server
