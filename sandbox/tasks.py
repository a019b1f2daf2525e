"""Requests for tasks at the processing edge: each from its arrival to its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Receive, Scope, Send

from tagmill.sandbox.access import permit_task
from tagmill.sandbox.fault_replies import instead, throttle_reply
from tagmill.sandbox.faults import DELIVERY, INSTEAD, SILENT, Fault, FaultRule, Operation
from tagmill.sandbox.ledger import NO_ANSWER, Arrival
from tagmill.sandbox.load import LoadAnswers
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.replies import Refusal, Reply, text_reply
from tagmill.sandbox.urls import Address, HandleSource, Source
from tagmill.sandbox.wire import send_badly, send_reply

_BYPASS_HTTP = SILENT | DELIVERY


class Asked(Protocol):
    """A request that is understood and permitted."""

    async def answer(self, rule: FaultRule | None) -> tuple[Reply, bool]:
        """A reply, with the odd data that the rule asks for, and whether it is billed."""

    def replaced(self, reply: Reply) -> None:
        """A fault's reply goes out instead."""


Understand = Callable[[Address], Asked]  #: raises Refusal


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


class Tasks:
    def __init__(self, parts: Parts, load: LoadAnswers | None, offered: Mapping[str, Understand]) -> None:
        """`offered`: by the task's name. The last task of a chain is the one that answers."""
        self._parts = parts
        self._load = load
        self.offered = offered

    async def __call__(self, scope: Scope, receive: Receive, send: Send, address: Address) -> None:
        arrival = self._parts.ledger.arrive()
        verdict = await self._decide(address, scope["raw_path"])
        self._parts.ledger.settle(
            arrival,
            address.tasks[-1].name,
            address.source.name,
            verdict.status,
            billed=verdict.billed,
        )
        await self._lag(arrival)
        if verdict.rule is not None and verdict.rule.fault in _BYPASS_HTTP:
            await send_badly(verdict.rule, verdict.reply, scope, receive)
        elif verdict.reply is not None:
            await send_reply(verdict.reply, send)

    async def refuse(self, reply: Reply, send: Send) -> None:
        """Answer, and record, a request for a task that could not be read."""
        self._parts.ledger.settle(self._parts.ledger.arrive(), "", "", reply.status, billed=False)
        await send_reply(reply, send)

    async def _decide(self, address: Address, raw_path: bytes) -> Verdict:
        try:
            self._admit()
            self._permit(address, raw_path)
            asked = self._understand(address)
        except Refusal as refusal:
            return Verdict(refusal.reply)
        rule = self._rule(Operation(address.tasks[-1].name), address.source)
        if rule is not None and rule.fault in SILENT:
            return Verdict(None, rule.charged, rule)
        if rule is not None and rule.fault in INSTEAD:
            reply = instead(rule.fault)
            asked.replaced(reply)
            return Verdict(reply, rule.charged, rule)
        return Verdict(*await asked.answer(rule), rule)

    def _admit(self) -> None:
        full = self._parts.throttle.refused() if self._parts.throttle else None
        if full is not None:
            self._parts.ledger.throttled += 1
            raise Refusal(throttle_reply(self._parts.config.throttle_status, *full))

    def _permit(self, address: Address, raw_path: bytes) -> None:
        policy = permit_task(self._parts.config, address, self._parts.clock())
        plain = [(task.name, *task.params) for task in address.tasks] == [("tags",)]
        if self._load is not None and plain and policy.handle is None:
            self._load.remember(raw_path, address, policy.expiry)

    def _understand(self, address: Address) -> Asked:
        name = address.tasks[-1].name
        if name not in self.offered:
            raise Refusal(text_reply(400, f"the sandbox does not offer `{name}` as the last task"))
        return self.offered[name](address)

    def _rule(self, operation: Operation, source: Source) -> FaultRule | None:
        faults = self._parts.faults
        wanted = faults.name_images and isinstance(source, HandleSource)
        stored = self._parts.files.get(source.name) if wanted else None
        return faults.pick(operation, source.name, stored.filename if stored else "")

    async def _lag(self, arrival: Arrival) -> None:
        left = arrival.monotonic + self._parts.latency_seconds - time.monotonic()
        if self._parts.latency_seconds and left > 0:
            await asyncio.sleep(left)
