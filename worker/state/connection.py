"""Connections to Redis, Lua scripts by name, and the one place where Redis' failures become ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis.exceptions as theirs
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from tagmill.worker.errors import RedisUnavailableError

SOCKET_SECONDS = 5.0
RETRIES = 5  #: a restart of Redis takes longer; that is the next chunk's business
UNAVAILABLE = (
    theirs.ConnectionError,
    theirs.TimeoutError,
    theirs.OutOfMemoryError,
    theirs.ReadOnlyError,
    theirs.MasterDownError,
)
#: Redis 6.2 answers a write that fails inside a script with `ERR Error running script …: -OOM …`
MOMENTARY = ("-OOM ", "-READONLY ", "-MISCONF ", "-MASTERDOWN ", "MISCONF ", "LOADING ")


#: Read with the module: an update may replace the files under a worker, whose code sends the arguments of its
#: own scripts.
LUA = {
    file.name.removesuffix(".lua"): file.read_text()
    for file in resources.files(__package__).iterdir()
    if file.name.endswith(".lua")
}


def connect(url: str) -> Redis:
    """Return a client that answers bytes. Nothing is sent yet."""
    return Redis.from_url(
        url,
        decode_responses=False,
        socket_timeout=SOCKET_SECONDS,
        health_check_interval=10,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), RETRIES),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise `RedisUnavailableError` for what another moment may cure; a mistake of ours stays what it is."""
    try:
        yield
    except UNAVAILABLE as error:
        raise _unavailable(error) from None
    except theirs.ResponseError as error:
        if any(word in str(error) for word in MOMENTARY):
            raise _unavailable(error) from None
        raise


def seconds_of(answer: Any) -> float:
    """Return what Redis' command TIME tells, in seconds since the epoch."""
    seconds, microseconds = answer
    return float(seconds) + float(microseconds) / 1_000_000


class Script:
    """One Lua file, ready to run. Each bears being run twice: a client repeats what got no reply."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._run = redis.register_script(LUA[name])

    async def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | float] = ()) -> Any:
        with translated():
            return await self._run(keys=keys, args=args)


def _unavailable(error: Exception) -> RedisUnavailableError:
    # Without the cause and its text, which may hold the address with its password.
    kind = type(error).__name__
    return RedisUnavailableError(
        f"Redis does not answer ({kind}): see that it runs and has memory and disk space, then resume"
    )
