"""Chunks into Celery's queue. The message is a hint, so it carries numbers and nothing of value."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from tagmill.config.celery import QUEUE, TAG_CHUNK, celery_settings
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Chunk


class Publisher:
    def __init__(self, redis_url: str, redis_prefix: str) -> None:
        self._app = Celery("tagmill", set_as_current=False)
        self._app.conf.update(celery_settings(redis_url, redis_prefix))

    def __call__(self, chunk: Chunk, lane: str = QUEUE) -> None:
        """Raise `RedisUnavailableError`; the next refill tries again."""
        try:
            self._app.send_task(
                TAG_CHUNK,
                args=[chunk.to_message()],
                queue=lane,
                argsrepr="-",
                kwargsrepr="-",
                retry=False,
            )
        except OperationalError as error:
            raise RedisUnavailableError(f"Redis takes no message ({type(error).__name__})") from None

    def close(self) -> None:
        self._app.close()
