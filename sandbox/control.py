"""`/_sandbox/…`: what the server saw, and what it is to do wrong. No part of the Filestack API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import numpy as np
import orjson
from starlette.requests import Request
from starlette.routing import Route

from tagmill.sandbox.endpoint import Endpoint
from tagmill.sandbox.faults import FaultRule
from tagmill.sandbox.jobs import Jobs
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.replies import JSON, Refusal, Reply, text_reply
from tagmill.sandbox.webhooks import Receiver

FAULT_SETTINGS = {"rules", "seed", "latency_ms"}
WEBHOOK_SETTINGS = {"webhooks", "webhook_retries"}


@dataclass(frozen=True, slots=True)
class Control:
    parts: Parts
    jobs: Jobs

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/stats", Endpoint(self.stats), methods=["GET"]),
            Route("/_sandbox/arrivals", Endpoint(self.arrivals), methods=["GET"]),
            Route("/_sandbox/reset", Endpoint(self.reset), methods=["POST"]),
            Route("/_sandbox/faults", Endpoint(self.faults), methods=["GET"]),
            Route("/_sandbox/faults", Endpoint(self.set_faults), methods=["POST"]),
            Route("/_sandbox/webhooks", Endpoint(self.webhooks), methods=["GET"]),
            Route("/_sandbox/webhooks", Endpoint(self.set_webhooks), methods=["POST"]),
        ]

    async def stats(self, request: Request) -> Reply:
        counted = {"jobs": self.jobs.states(), "webhooks": self.parts.deliveries.states()}
        stats = {**self.parts.ledger.stats(), **counted}
        if request.query_params.get("images"):
            stats["images"] = await anyio.to_thread.run_sync(self._images)
        return _json(stats)

    def _images(self) -> dict[str, Any] | None:
        """Load mode keeps no names."""
        if self.parts.config.load:
            return None
        images = self.parts.ledger.images()
        for name, counts in images.items():
            stored = self.parts.files.get(name) if "/" not in name and name else None
            counts["filename"] = stored and stored.filename
        return images

    async def arrivals(self, _: Request) -> Reply:
        """`times` counts every request, `requests` those that were decided."""
        ledger = self.parts.ledger
        times = np.array(ledger.times)
        requests = None
        if not self.parts.config.load:
            requests = await anyio.to_thread.run_sync(lambda: list(ledger.requests()))
        return _json({"times": times, "requests": requests})

    async def reset(self, _: Request) -> Reply:
        """Forget calls, deliveries and cached answers, count faults from nothing; files, rules, jobs stay."""
        self.parts.ledger.reset()
        self.parts.cache.clear()
        self.parts.faults.restart()
        self.parts.deliveries.forget()
        return _json({"reset": True})

    async def faults(self, _: Request) -> Reply:
        faults = self.parts.faults
        rules = [rule.to_json() for rule in faults.rules]
        return _json({"rules": rules, "seed": faults.seed, "latency_ms": self.parts.latency_seconds * 1_000})

    async def set_faults(self, request: Request) -> Reply:
        """Change the settings that are given; rules are replaced as a whole."""
        await _told(request, self._set_faults, FAULT_SETTINGS)
        return await self.faults(request)

    def _set_faults(self, wanted: dict[str, Any]) -> None:
        current = self.parts.faults
        rules = (
            [FaultRule.from_json(rule) for rule in wanted["rules"]] if "rules" in wanted else current.rules
        )
        latency_seconds = float(wanted.get("latency_ms", self.parts.latency_seconds * 1_000)) / 1_000
        current.replace(rules, int(wanted.get("seed", current.seed)))
        self.parts.latency_seconds = max(0.0, latency_seconds)

    async def webhooks(self, _: Request) -> Reply:
        """Who gets them, without their secrets, and what became of those that were sent."""
        deliveries = self.parts.deliveries
        receivers = [{"url": one.url, "actions": one.actions} for one in deliveries.receivers]
        sent = [delivery.to_json() for delivery in deliveries.record]
        return _json({"webhooks": receivers, "webhook_retries": deliveries.retries, "deliveries": sent})

    async def set_webhooks(self, request: Request) -> Reply:
        """Change the settings that are given, for events from now on."""
        await _told(request, self._set_webhooks, WEBHOOK_SETTINGS)
        return await self.webhooks(request)

    def _set_webhooks(self, wanted: dict[str, Any]) -> None:
        deliveries = self.parts.deliveries
        receivers, retries = deliveries.receivers, deliveries.retries
        if "webhooks" in wanted:
            receivers = tuple(Receiver.from_json(one) for one in wanted["webhooks"])
        if "webhook_retries" in wanted:
            retries = tuple(map(float, wanted["webhook_retries"]))
        deliveries.receivers, deliveries.retries = receivers, retries


async def _told(request: Request, change: Callable[[dict[str, Any]], None], settings: set[str]) -> None:
    """Raise Refusal, with nothing changed, for what makes no sense."""
    try:
        change(_only(settings, json.loads(await request.body())))
    except (ValueError, TypeError, AttributeError) as error:
        raise Refusal(text_reply(400, str(error))) from error


def _only(settings: set[str], wanted: dict[str, Any]) -> dict[str, Any]:
    if unknown := wanted.keys() - settings:
        raise ValueError(f"no setting {min(unknown)!r}; there are {', '.join(sorted(settings))}")
    return wanted


def _json(value: Any) -> Reply:
    return Reply(200, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), JSON)
