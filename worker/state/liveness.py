"""Whether a worker gets on. Read from what it says of itself, and from what was seen at the look before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson
import redis

from tagmill.config.celery import LANES
from tagmill.worker.state.connection import seconds_of, translated
from tagmill.worker.state.keys import Keys

LONGEST_GAP = 0.25  #: between two looks, as a share of the patience; after a longer one all begins anew
LEAST_GAP_SECONDS = 30.0
KEPT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Signs:
    """Times are seconds by Redis' clock."""

    alive_at: float
    ended_at: float  #: when it last dealt with a message; 0.0: never
    waiting: int  #: messages in the queues of its lanes


@dataclass(frozen=True, slots=True)
class Look:
    at: float
    begun_at: float  #: of the looks without a long gap the first
    owing_since: float  #: since when the worker has had something to take, and has ended nothing


def look_again(signs: Signs, before: Look | None, now: float, patience: float) -> Look:
    """`patience`: seconds that a worker may take."""
    longest_gap = max(LONGEST_GAP * patience, LEAST_GAP_SECONDS)
    if before is None or now - before.at > longest_gap:  # who knows what was in between: Redis was away
        return Look(now, now, now)
    owing_since = max(before.owing_since, signs.ended_at) if signs.waiting else now
    return Look(now, before.begun_at, owing_since)


def complaint(signs: Signs, look: Look, patience: float) -> str | None:
    """Return what is wrong with the worker; None: nothing."""
    silent = look.at - max(signs.alive_at, look.begun_at)
    if silent > patience:
        return f"has given no sign of life for {silent:.0f} s"
    owing = look.at - look.owing_since
    if owing > patience:
        return f"has finished nothing for {owing:.0f} s, with {signs.waiting} messages waiting"
    return None


class Liveness:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        """`client` must answer bytes."""
        self._redis: Any = client  # redis-py types every reply as bytes or str or more
        self._keys = keys

    def workers(self) -> list[str]:
        """Return the names of all that have not said goodbye, dead ones included."""
        with translated():
            return sorted(name.decode() for name in self._redis.hkeys(self._keys.workers()))

    def examine(self, worker: str, patience: float) -> str | None:
        """Look at the worker, remember the look; return what is wrong with it, None: nothing."""
        with translated():
            now = seconds_of(self._redis.time())
            signs, key = self._signs(worker), self._keys.look(worker)
            before = self._redis.get(key)
            look = look_again(signs, before and Look(**orjson.loads(before)), now, patience)
            self._redis.set(key, orjson.dumps(asdict(look)), ex=KEPT_SECONDS)
        return complaint(signs, look, patience)

    def _signs(self, worker: str) -> Signs:
        said = orjson.loads(self._redis.hget(self._keys.workers(), worker) or b'{"at": 0}')
        ended_at = self._redis.get(self._keys.turn(worker)) or 0
        lanes = said.get("lanes", LANES)  # an older worker does not say
        waiting = sum(self._redis.llen(self._keys.queue(lane)) for lane in lanes)
        return Signs(said["at"], float(ended_at), waiting)
