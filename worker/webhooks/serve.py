"""`tagmill serve`: the receiver on a socket of its own until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial

import uvicorn
from starlette.applications import Starlette

from tagmill.config.logs import Redactor
from tagmill.config.settings import Settings
from tagmill.worker.errors import ConfigError, RedisUnavailableError
from tagmill.worker.s3 import store_client
from tagmill.worker.state.connection import connect
from tagmill.worker.state.jobs import Jobs
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leader import Leader
from tagmill.worker.store.base import Files
from tagmill.worker.store.opening import open_probed
from tagmill.worker.webhooks.app import create_app
from tagmill.worker.webhooks.digesting import Digester
from tagmill.worker.webhooks.foreign import ForeignResults
from tagmill.worker.webhooks.hints import Hints
from tagmill.worker.webhooks.memory import Memory
from tagmill.worker.webhooks.receiver import Receiver
from tagmill.worker.webhooks.signature import Endpoint

KEEP_ALIVE_SECONDS = 75  #: longer than clients keep idle connections, so that they close first
GRACE_SECONDS = 25  #: for what is being written
MOST_CONNECTIONS = 1_000


def serve(settings: Settings, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Block until SIGTERM or SIGINT; `ready` is called with the URL once connections are accepted.

    Raise `ConfigError` before anything is received.
    """
    endpoints = _endpoints(settings)
    files = open_probed(settings.run_store, lambda: store_client(settings.s3_endpoint_url))
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more after an orderly end
        _Server(_app(settings, files, endpoints), partial(ready, _url(listener))).run(sockets=[listener])


def _endpoints(settings: Settings) -> dict[str, Endpoint]:
    found = settings.webhook_endpoints
    if not found:
        raise ConfigError(
            "no webhook is set up: put [webhooks.NAME] with secrets into tagmill.toml, "
            "or set TAGMILL_WEBHOOK_SECRETS"
        )
    return {
        name: Endpoint(name, secrets, max_age_seconds=settings.webhook_max_age, clock=time.time)
        for name, secrets in found.items()
    }


def _app(settings: Settings, files: Files, endpoints: Mapping[str, Endpoint]) -> Starlette:
    redis = connect(settings.redis_url) if settings.redis_url else None
    keys, memory = Keys(settings.redis_prefix), Memory()
    jobs = Jobs(redis, keys) if redis else None
    hints, leader = Hints(jobs), Leader(redis, keys.digest_leader())
    receiver = Receiver(
        files,
        endpoints,
        memory,
        redact=Redactor(settings.secrets()),
        stored=hints.put,
        now=_now,
        clock=time.monotonic,
    )
    digester = Digester(
        files,
        memory,
        ForeignResults(files, embedded=redis is None, now=_now),
        jobs=jobs,
        leader=leader,
        grace_seconds=settings.webhook_grace,
        now=_now,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with _beside(hints.give), _beside(digester.run):
            yield
        with contextlib.suppress(RedisUnavailableError):
            await leader.resign()
        if redis is not None:
            await redis.aclose()

    return create_app(receiver, lifespan)


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def _beside(work: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Server(uvicorn.Server):
    def __init__(self, app: Starlette, announce: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds what it tried
        raise ConfigError(
            f"cannot listen on {host}:{port} ({reason}); choose another --host or --port"
        ) from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
