"""Filestack's synchronous `tags` task: one GET, one answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tagmill.worker.engines.base import Locator
from tagmill.worker.engines.exchange import Reply
from tagmill.worker.engines.filestack_answers import parse_tags
from tagmill.worker.engines.filestack_service import FilestackService
from tagmill.worker.engines.filestack_urls import PLAIN_TAGS, Task
from tagmill.worker.errors import BadResponseError, ItemError
from tagmill.worker.models import Answer

T = TypeVar("T")


class FilestackEngine(FilestackService):
    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:  # noqa: ARG002 - one call is all
        """One GET, never repeated here: another one is the caller's to count, to pay and to pace."""
        (tags, flags), reply = await self._ask(locator, PLAIN_TAGS, parse_tags)
        return Answer(tags, flags, reply.status, reply.latency_ms)

    def without(self, so_far: Answer | None, error: ItemError) -> Answer | None:  # noqa: ARG002 - as above
        """Without tags there is no answer."""
        return None

    async def _ask(self, locator: Locator, task: Task, read: Callable[[bytes], T]) -> tuple[T, Reply]:
        """One paid call. `read` makes of its body what is returned, or raises `BadResponseError`."""
        signed = self._policies.allowing("convert", "read")
        reply = await self._exchange.get(self._cdn, self._targets.of(locator, signed.task, task))
        if not reply.ok:
            raise self._error(reply, signed)
        try:
            told = read(reply.body)
        except BadResponseError as error:
            raise self._error(reply, signed, unread=str(error)) from None
        await self._report_limit(reply)
        return told, reply
