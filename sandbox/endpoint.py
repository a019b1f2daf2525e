"""Turns handlers that return replies, or raise refusals, into ASGI; faults included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tagmill.sandbox.fault_replies import instead
from tagmill.sandbox.faults import DELIVERY, SILENT, FaultRule, Faults, Operation
from tagmill.sandbox.replies import Refusal, Reply
from tagmill.sandbox.wire import send_badly, send_reply

Handler = Callable[[Request], Awaitable[Reply | Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    handler: Handler
    faults: Faults | None = None
    operation: Operation = Operation.STORE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        rule = self._rule(request)
        if rule is not None and rule.fault in SILENT:
            await send_badly(rule, None, scope, receive)
            return
        reply = await self._reply(request, rule)
        if isinstance(reply, Response):
            await reply(scope, receive, send)
        elif rule is not None and rule.fault in DELIVERY:
            await send_badly(rule, reply, scope, receive)
        else:
            await send_reply(reply, send)

    def _rule(self, request: Request) -> FaultRule | None:
        if self.faults is None:
            return None
        name = request.path_params.get("handle") or request.query_params.get("filename", "")
        return self.faults.pick(self.operation, name)

    async def _reply(self, request: Request, rule: FaultRule | None) -> Reply | Response:
        if rule is not None and rule.fault not in DELIVERY:
            return instead(rule.fault)
        try:
            return await self.handler(request)
        except Refusal as refusal:
            return refusal.reply
