"""A Redis that would lose the queue or whose clock disagrees is refused before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from servers.redis import RedisUnderTest, free_port, running_redis

from tagmill.worker.errors import ConfigError, RedisUnavailableError, TaggingError
from tagmill.worker.state.checks import check_clock, check_server, connect_checked

CANARY = "canary-password"


@pytest.fixture(scope="module")
def other() -> Iterator[RedisUnderTest]:
    """A server whose settings a test may change."""
    with running_redis(0) as server:
        yield server


def complaint(url: str, kind: type[TaggingError] = ConfigError) -> str:
    with pytest.raises(kind) as refused:
        connect_checked(url)
    assert type(refused.value) is kind
    text = str(refused.value)
    assert "\n" not in text
    assert CANARY not in text
    return text


def test_a_proper_redis_is_accepted(redis_server: RedisUnderTest) -> None:
    with connect_checked(redis_server.url) as client:
        assert client.ping()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_refused(other: RedisUnderTest, policy: str) -> None:
    with other.sync_client() as client:
        client.config_set("maxmemory-policy", policy)
        said = complaint(other.url)
        client.config_set("maxmemory-policy", "noeviction")
    assert said.startswith(f"TAGMILL_REDIS_URL: maxmemory-policy is {policy}")
    assert "set it to noeviction" in said
    connect_checked(other.url).close()


def test_a_wrong_password_is_no_outage(other: RedisUnderTest) -> None:
    with other.sync_client() as client:
        client.config_set("requirepass", "right")
        try:
            wrong = complaint(other.url.replace("redis://", f"redis://:{CANARY}@"))
            none = complaint(other.url)
        finally:
            client.config_set("requirepass", "")
    assert wrong.startswith("TAGMILL_REDIS_URL: Redis refuses us")
    assert none.startswith("TAGMILL_REDIS_URL: Redis refuses us")


def test_a_redis_that_is_not_there_is_an_outage() -> None:
    said = complaint(f"redis://:{CANARY}@127.0.0.1:{free_port()}/0", RedisUnavailableError)
    assert said.startswith("TAGMILL_REDIS_URL: Redis does not answer")


def test_an_option_that_redis_client_cannot_read_is_named() -> None:
    assert "socket_timeout" in complaint(f"redis://:{CANARY}@localhost?socket_timeout=soon")


def test_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="Redis Cluster"):
        check_server({"cluster_enabled": 1})
    check_server({"cluster_enabled": 0, "maxmemory_policy": "noeviction"})


@pytest.mark.parametrize("skew", [5.1, -5.1, 1200.0, -86400.0])
def test_a_skewed_clock_is_refused(skew: float) -> None:
    with pytest.raises(ConfigError, match=rf"clock is {abs(skew):.0f} s off Redis' clock.*NTP"):
        check_clock(skew)


@pytest.mark.parametrize("skew", [0.0, 4.9, -4.9])
def test_clocks_may_differ_a_little(skew: float) -> None:
    check_clock(skew)


def test_the_clocks_that_are_compared_are_ours_and_redis(
    redis_server: RedisUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = redis.Redis.from_url(redis_server.url).time()[0]
    monkeypatch.setattr("tagmill.worker.state.checks.time.time", lambda: now + 60.0)
    assert "this machine's clock is" in complaint(redis_server.url)
