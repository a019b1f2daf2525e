"""What Redis must be like before anything is paid."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from tagmill.worker.errors import ConfigError, RedisUnavailableError
from tagmill.worker.state.connection import seconds_of, translated

MAX_SKEW_SECONDS = 5.0
SOCKET_SECONDS = 10.0


def connect_checked(url: str) -> redis.Redis:
    """Return a synchronous client that answers bytes.

    Raise `RedisUnavailableError`, or `ConfigError` for a cluster, an evicting server or a skewed clock.
    """
    try:
        client = redis.Redis.from_url(url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=5)
    except ValueError as error:  # an option behind `?`
        raise ConfigError(f"TAGMILL_REDIS_URL: {error}") from None
    try:
        info, told = _look(client)
    except RedisUnavailableError as error:
        raise RedisUnavailableError(f"TAGMILL_REDIS_URL: {error}") from None
    except RedisError as error:
        raise ConfigError(f"TAGMILL_REDIS_URL: Redis refuses us: {error}") from None
    check_server(info)
    check_clock(seconds_of(told) - time.time())
    return client


def _look(client: redis.Redis) -> tuple[Mapping[str, Any], tuple[int, int]]:
    """Return what the server says of itself, and its time."""
    with translated():
        try:
            return client.info(), client.time()
        except AuthenticationError as error:  # to redis-py a failure of the connection
            raise ResponseError(str(error)) from None


def check_server(info: Mapping[str, Any]) -> None:
    """Refuse what would lose the queue."""
    if int(info.get("cluster_enabled", 0)):
        raise ConfigError("TAGMILL_REDIS_URL: Celery cannot use Redis Cluster; name a single Redis primary")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(
            f"TAGMILL_REDIS_URL: maxmemory-policy is {policy}, which deletes the queue when memory runs out; "
            "set it to noeviction"
        )


def check_clock(skew_seconds: float) -> None:
    """Refuse a clock that Celery's visibility timeout cannot bear."""
    if abs(skew_seconds) > MAX_SKEW_SECONDS:
        raise ConfigError(
            f"this machine's clock is {abs(skew_seconds):.0f} s off Redis' clock; synchronise them (NTP), "
            f"{MAX_SKEW_SECONDS:.0f} s are allowed"
        )
