"""What Redis knows of a run beyond its counts: who holds its chunks, what holds its calls back. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from tagmill.worker.state.breaker import BreakerSnapshot
from tagmill.worker.state.connection import LUA, translated
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import (
    MICROSECONDS,
    NO_SHARE,
    LimiterSnapshot,
    account_scope,
    reserve_arguments,
)


@dataclass(frozen=True, slots=True)
class Hold:
    """A chunk in work."""

    chunk: str  #: its name
    pass_no: int
    holder: str  #: name of the worker, alive or dead
    seconds: float  #: until its lease ends, unless it is renewed


class Insight:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # redis-py types every reply as bytes or str or more
        self._keys = keys
        self._reserve = self._redis.register_script(LUA["limiter_reserve"])

    def holds(self, run_id: str) -> list[Hold]:
        """Return the run's chunks in work, in plan order."""
        with translated():
            names = sorted(self._redis.scan_iter(self._keys.leases_of(run_id), count=1000))
            with self._redis.pipeline() as pipe:
                for name in names:
                    pipe.get(name)
                    pipe.pttl(name)
                answers = pipe.execute()
        held = zip(names, answers[::2], answers[1::2], strict=True)
        return [_hold(name, token, left) for name, token, left in held if token is not None]

    def limiter(self, account: str) -> LimiterSnapshot:
        """Return what throttling left of the account's rate; consumes nothing."""
        scopes = (NO_SHARE.scope, account_scope(account))
        keys = [self._keys.slowdown(account), *map(self._keys.limit, scopes)]
        with translated():
            _, blocked, factor, *_ = self._reserve(keys=keys, args=reserve_arguments(0, [1.0]))
        return LimiterSnapshot(blocked / MICROSECONDS, factor / MICROSECONDS)

    def foreign_messages(self) -> dict[str, int]:
        """Return how many messages workers did not understand, by their version."""
        with translated():
            found: dict[bytes, bytes] = self._redis.hgetall(self._keys.foreign_messages())
        return {version.decode(): int(count) for version, count in sorted(found.items())}

    def breaker(self, account: str) -> BreakerSnapshot:
        with translated():
            return BreakerSnapshot.of(self._redis.hmget(self._keys.breaker(account), BreakerSnapshot.FIELDS))


def _hold(name: bytes, token: bytes, left: int) -> Hold:
    *_, pass_no, chunk = name.decode().split("/")
    return Hold(chunk, int(pass_no), token.decode().rpartition("/")[0], max(left, 0) / 1000)
