"""The `tags` task: one request from its arrival to its answer."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import partial

import anyio.to_thread
from starlette.types import Receive, Scope, Send

from tagmill.sandbox.access import permit_task
from tagmill.sandbox.cache import ERROR_SECONDS
from tagmill.sandbox.fault_replies import instead, spoil, throttle_reply
from tagmill.sandbox.faults import DELIVERY, INSTEAD, ODD_DATA, SILENT, Fault, FaultRule, Operation
from tagmill.sandbox.ledger import NO_ANSWER, Arrival
from tagmill.sandbox.load import LoadAnswers, load_reply
from tagmill.sandbox.options import TagOptions
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.pictures import TooLargeError, UnreadableError, UnsupportedError
from tagmill.sandbox.pixels import tag_file
from tagmill.sandbox.replies import Refusal, Reply, json_reply, provider_error, unreadable, unsupported
from tagmill.sandbox.urls import Address, HandleSource, Source
from tagmill.sandbox.wire import send_badly, send_reply

MOST_DECODERS = 4  #: images in memory at once
_VERSION_1_LABELS = 10  #: as many as old samples show
_ERROR = 400
_BYPASS_HTTP = SILENT | DELIVERY


@dataclass(frozen=True, slots=True)
class Verdict:
    reply: Reply | None  #: None: there will be no answer
    billed: bool = False
    rule: FaultRule | None = None

    @property
    def status(self) -> int:
        if self.reply is None or (self.rule is not None and self.rule.fault is Fault.RESET_AFTER):
            return NO_ANSWER
        return self.reply.status


class Tagging:
    def __init__(self, parts: Parts, load: LoadAnswers | None) -> None:
        self._parts = parts
        self._load = load
        self._decoders = anyio.CapacityLimiter(min(MOST_DECODERS, os.cpu_count() or 1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send, address: Address) -> None:
        arrival = self._parts.ledger.arrive()
        verdict = await self._decide(address, scope["raw_path"])
        self._parts.ledger.settle(arrival, address.source.name, verdict.status, billed=verdict.billed)
        await self._lag(arrival)
        if verdict.rule is not None and verdict.rule.fault in _BYPASS_HTTP:
            await send_badly(verdict.rule, verdict.reply, scope, receive)
        elif verdict.reply is not None:
            await send_reply(verdict.reply, send)

    async def refuse(self, reply: Reply, send: Send) -> None:
        """Answer, and record, a tags request that could not be read."""
        self._parts.ledger.settle(self._parts.ledger.arrive(), "", reply.status, billed=False)
        await send_reply(reply, send)

    async def _decide(self, address: Address, raw_path: bytes) -> Verdict:
        try:
            self._admit()
            self._permit(address, raw_path)
            options = TagOptions.of(address)
        except Refusal as refusal:
            return Verdict(refusal.reply)
        rule = self._rule(address.source)
        if rule is not None and rule.fault in INSTEAD:
            return self._replaced(address, options, rule)
        reply, billed = await self._answer(address, options)
        if rule is not None and rule.fault in ODD_DATA:
            reply = spoil(rule.fault, reply)
        return Verdict(reply, billed, rule)

    def _admit(self) -> None:
        full = self._parts.throttle.refused() if self._parts.throttle else None
        if full is not None:
            self._parts.ledger.throttled += 1
            raise Refusal(throttle_reply(self._parts.config.throttle_status, *full))

    def _permit(self, address: Address, raw_path: bytes) -> None:
        policy = permit_task(self._parts.config, address, self._parts.clock())
        plain = len(address.tasks) == 1 and not address.tasks[0].params
        if self._load is not None and plain and policy.handle is None:
            self._load.remember(raw_path, address, policy.expiry)

    def _rule(self, source: Source) -> FaultRule | None:
        faults = self._parts.faults
        wanted = faults.name_images and isinstance(source, HandleSource)
        stored = self._parts.files.get(source.name) if wanted else None
        return faults.pick(Operation.TAGS, source.name, stored.filename if stored else "")

    def _replaced(self, address: Address, options: TagOptions, rule: FaultRule) -> Verdict:
        if rule.fault in SILENT:
            return Verdict(None, rule.charged, rule)
        reply = instead(rule.fault)
        if reply.status >= _ERROR:  # a disguised one must not outlive its rule as an answer
            self._keep(address, options, reply)
        return Verdict(reply, rule.charged, rule)

    async def _answer(self, address: Address, options: TagOptions) -> tuple[Reply, bool]:
        """A reply, and whether it is billed."""
        cached = self._parts.cache.get(address.cache_key) if self._may_cache(options) else None
        if cached is not None:
            self._parts.ledger.cached += 1
            return cached, False
        try:
            reply = await self._tag(address, options)
        except Refusal as refusal:
            reply = refusal.reply
        self._keep(address, options, reply)
        return reply, reply.status < _ERROR

    def _may_cache(self, options: TagOptions) -> bool:
        config = self._parts.config
        return config.cache and not config.load and options.lifetime_seconds is not None

    def _keep(self, address: Address, options: TagOptions, reply: Reply) -> None:
        error = reply.status >= _ERROR
        if options.lifetime_seconds is None or not self._may_cache(options):
            return
        if not error:
            self._parts.cache.put(address.cache_key, reply, options.lifetime_seconds)
        elif self._parts.config.cache_errors:
            self._parts.cache.put(address.cache_key, reply, ERROR_SECONDS)

    async def _tag(self, address: Address, options: TagOptions) -> Reply:
        if self._parts.config.load:
            return load_reply(address.source.name)
        async with self._parts.sources.opened(address.source) as path:
            work = partial(tag_file, path, options.longest_edge)
            try:
                labels = await anyio.to_thread.run_sync(work, limiter=self._decoders)
            except UnsupportedError as error:
                raise Refusal(unsupported(str(error))) from error
            except TooLargeError as error:
                raise Refusal(provider_error(400, "conv20", f"{error} is too large")) from error
            except (UnreadableError, FileNotFoundError) as error:
                raise Refusal(unreadable()) from error
        if options.version == 1:
            labels = dict(list(labels.items())[:_VERSION_1_LABELS])
        return json_reply(200, {"tags": {"auto": labels, "user": None}})

    async def _lag(self, arrival: Arrival) -> None:
        left = arrival.monotonic + self._parts.latency_seconds - time.monotonic()
        if self._parts.latency_seconds and left > 0:
            await asyncio.sleep(left)
