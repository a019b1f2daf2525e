"""Answers of the intelligence tasks: computed from a source's pixels, and kept as the CDN keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio.to_thread

from tagmill.sandbox.answers import Answer, answer
from tagmill.sandbox.cache import ERROR_SECONDS
from tagmill.sandbox.fault_replies import spoil
from tagmill.sandbox.faults import FaultRule
from tagmill.sandbox.load import made_up_tags
from tagmill.sandbox.options import TaskOptions
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.pictures import (
    WORKING_EDGE,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    open_picture,
)
from tagmill.sandbox.replies import (
    ERROR,
    Refusal,
    Reply,
    json_reply,
    provider_error,
    text_reply,
    unreadable,
    unsupported,
)
from tagmill.sandbox.urls import Address, Source, Task

MOST_DECODERS = 4  #: images in memory at once
MOST_DOCUMENT_PIXELS = 2_000  #: of a side, for `doc_detection`


class Intelligence:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._decoders = anyio.CapacityLimiter(min(MOST_DECODERS, os.cpu_count() or 1))

    async def answer(self, source: Source, task: Task, longest_edge: int = WORKING_EDGE) -> Answer:
        """Raise Refusal."""
        if self._parts.config.load:
            return _made_up(source, task)
        async with self._parts.sources.opened(source) as path:
            with _refusing():
                return await anyio.to_thread.run_sync(_look, path, task, longest_edge, limiter=self._decoders)

    def asked(self, address: Address) -> Picturing:
        """Raise Refusal for what is not offered."""
        return Picturing(self, self._parts, address, TaskOptions.of(address))


@dataclass(frozen=True, slots=True)
class Picturing:
    """One request for what a picture shows."""

    intelligence: Intelligence
    parts: Parts
    address: Address
    options: TaskOptions

    async def answer(self, rule: FaultRule | None) -> tuple[Reply, bool]:
        """A reply, and whether it is billed."""
        reply, billed = await self._answer()
        return (spoil(rule.fault, reply) if rule else reply), billed

    def replaced(self, reply: Reply) -> None:
        """Something else goes out; a disguised error must not outlive its rule as an answer."""
        if reply.status >= ERROR:
            self._keep(reply)

    async def _answer(self) -> tuple[Reply, bool]:
        cached = self.parts.cache.get(self.address.cache_key) if self._may_cache else None
        if cached is not None:
            self.parts.ledger.cached += 1
            return cached, False
        try:
            source, options = self.address.source, self.options
            reply = json_reply(
                200, await self.intelligence.answer(source, options.task, options.longest_edge)
            )
        except Refusal as refusal:
            reply = refusal.reply
        self._keep(reply)
        return reply, reply.status < ERROR

    @property
    def _may_cache(self) -> bool:
        config = self.parts.config
        return config.cache and not config.load and self.options.lifetime_seconds is not None

    def _keep(self, reply: Reply) -> None:
        lifetime = self.options.lifetime_seconds
        if lifetime is None or not self._may_cache:
            return
        if reply.status < ERROR:
            self.parts.cache.put(self.address.cache_key, reply, lifetime)
        elif self.parts.config.cache_errors:
            self.parts.cache.put(self.address.cache_key, reply, ERROR_SECONDS)


def _look(path: bytes, task: Task, longest_edge: int) -> Answer:
    """Blocks: meant for a thread."""
    picture = open_picture(path, longest_edge)
    if task.name == "doc_detection" and max(picture.width, picture.height) > MOST_DOCUMENT_PIXELS:
        raise TooLargeError("document")
    return answer(task, picture)


def _made_up(source: Source, task: Task) -> Answer:
    if task.name != "tags":
        raise Refusal(text_reply(400, "in load mode the sandbox answers tags only"))
    made_up: Answer = json.loads(made_up_tags(source.name.encode(errors="surrogateescape")))
    return made_up


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except UnsupportedError as error:
        raise Refusal(unsupported(str(error))) from error
    except TooLargeError as error:
        raise Refusal(provider_error(400, "conv20", f"{error} is too large")) from error
    except (UnreadableError, FileNotFoundError) as error:
        raise Refusal(unreadable()) from error
