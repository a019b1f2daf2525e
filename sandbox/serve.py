"""Runs the sandbox on a socket of its own until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from tagmill.sandbox.app import create_app
from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.load import protocol_for
from tagmill.worker.errors import ConfigError

_KEEP_ALIVE_SECONDS = 75  #: longer than clients keep idle connections, so that they close first
_GRACE_SECONDS = 1
_PARENT_CHECK_SECONDS = 0.5


def serve(
    config: SandboxConfig,
    *,
    ready: Callable[[str], None] | None = None,
    ready_file: Path | None = None,
    parent_pid: int | None = None,
) -> None:
    """Block until SIGTERM, SIGINT or the end of the parent process.

    `ready` is called with the URL once connections are accepted; `ready_file` then holds `{"url": …}`.
    Raise ConfigError when the address cannot be bound.
    """
    listener = _listen(config)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def announce() -> None:
        if ready_file is not None:
            _write_whole(ready_file, json.dumps({"url": url}) + "\n")
        if ready is not None:
            ready(url)

    with listener, suppress(KeyboardInterrupt):  # Ctrl-C is how it is meant to end
        _Server(_app(config), config, announce, parent_pid).run(sockets=[listener])


def _app(config: SandboxConfig) -> Starlette:
    try:
        return create_app(config)
    except OSError as error:
        folder = error.filename or config.data_folder
        raise ConfigError(
            f"the sandbox cannot write to its data folder: {folder}: {error.strerror}"
        ) from error


class _Server(uvicorn.Server):
    def __init__(
        self, app: Starlette, config: SandboxConfig, announce: Callable[[], None], parent_pid: int | None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_for(load=config.load),
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,  # it would show signed URLs
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._announce = announce
        self._parent_pid = parent_pid

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    async def main_loop(self) -> None:
        if self._parent_pid is None:
            await super().main_loop()
            return
        watch = asyncio.create_task(self._end_with(self._parent_pid))
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    async def _end_with(self, parent_pid: int) -> None:
        while os.getppid() == parent_pid:  # noqa: ASYNC110 - nothing announces a parent's death
            await asyncio.sleep(_PARENT_CHECK_SECONDS)
        self.should_exit = True


def _listen(config: SandboxConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        where = f"{config.host}:{config.port}"
        raise ConfigError(
            f"the sandbox cannot listen on {where} ({error.strerror}); choose another port"
        ) from error
    return listener


def _write_whole(path: Path, text: str) -> None:
    """Readers see nothing or all of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
