"""What the endpoints share; built once by the app."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tagmill.sandbox.background import Background
from tagmill.sandbox.cache import EdgeCache
from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.deliveries import Deliveries
from tagmill.sandbox.faults import Faults
from tagmill.sandbox.files import FileStore
from tagmill.sandbox.ledger import Ledger
from tagmill.sandbox.sources import Sources
from tagmill.sandbox.throttle import Throttle
from tagmill.sandbox.webhooks import Post

Clock = Callable[[], float]


@dataclass(slots=True)
class Parts:
    config: SandboxConfig
    files: FileStore
    sources: Sources
    ledger: Ledger
    cache: EdgeCache
    faults: Faults
    throttle: Throttle | None
    background: Background
    post: Post
    deliveries: Deliveries
    latency_seconds: float  #: can be changed while it runs
    clock: Clock

    @classmethod
    def build(cls, config: SandboxConfig, folder: str, clock: Clock = time.time) -> Parts:
        files, faults = FileStore(folder), Faults(config.faults, config.seed)
        background, post = Background(), Post()
        return cls(
            config=config,
            files=files,
            sources=Sources(files, config.aliases),
            ledger=Ledger(None if config.load else f"{folder}/arrivals.jsonl", clock, time.monotonic),
            cache=EdgeCache(clock),
            faults=faults,
            throttle=Throttle(config.rate_limit, clock) if config.rate_limit else None,
            background=background,
            post=post,
            deliveries=Deliveries(config.webhooks, config.webhook_retries, faults, background, post, clock),
            latency_seconds=config.latency_seconds,
            clock=clock,
        )
