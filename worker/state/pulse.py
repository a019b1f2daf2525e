"""What a chunk in work says of itself every second, and hears of its run's control."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.connection import Script, translated
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.runs import Control

KEPT_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Waits:
    """How the limiter holds lanes back."""

    held_seconds: float = 0.0  #: that they waited for permits
    lane_seconds: float = 0.0  #: that they had
    limit: float | None = None  #: calls/s that it lets through
    account: str | None = None


CONTROL_SECONDS = 3  #: how long a cached control is believed before the files are asked again


class Pulse:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys, chunk: Chunk) -> None:
        self._redis, self._chunk = redis, chunk
        self._progress = keys.progress(chunk.run_id, chunk.pass_no)
        self._waits, self._control = keys.waits(chunk.run_id), keys.control(chunk.run_id)
        self._note_script = Script(redis, "control_note")

    async def beat(self, counts: bytes, waits: Waits) -> bytes | None:
        """Show the chunk's counts, add to the run's waits; return the cached control."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(self._progress, self._chunk.name, counts)
                pipe.hincrbyfloat(self._waits, "held", waits.held_seconds)
                pipe.hincrbyfloat(self._waits, "lanes", waits.lane_seconds)
                pipe.hset(self._waits, mapping={"limit": waits.limit or 0, "account": waits.account or ""})
                pipe.expire(self._waits, KEPT_SECONDS)
                pipe.get(self._control)
                control: bytes | None = (await pipe.execute())[-1]
                return control

    async def note_control(self, control: Control) -> None:
        """Spare the other workers a look into the files."""
        await self._note_script([self._control], control_note(control))


def control_note(control: Control) -> list[str | bytes | float]:
    """Return the arguments of the script of that name."""
    return [orjson.dumps(control.to_json()), control.n, CONTROL_SECONDS]
