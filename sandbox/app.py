"""The sandbox as one ASGI application that plays every Filestack host."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from tagmill.sandbox.answers import ANSWERS
from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.control import Control
from tagmill.sandbox.edge import Edge
from tagmill.sandbox.file_api import FileApi
from tagmill.sandbox.intelligence import Intelligence
from tagmill.sandbox.jobs import Jobs
from tagmill.sandbox.load import LoadAnswers
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.tasks import Tasks, Understand
from tagmill.sandbox.workflow_calls import WorkflowCalls


def create_app(config: SandboxConfig) -> Starlette:
    """Serve it with `tagmill.sandbox.wire.EdgeProtocol`: connection faults and load mode need it."""
    cleanup = ExitStack()
    folder = config.data_folder or cleanup.enter_context(
        tempfile.TemporaryDirectory(prefix="tagmill-sandbox-")
    )
    parts = Parts.build(config, folder)
    cleanup.callback(parts.ledger.close)
    load = _load_answers(parts) if config.load else None

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        with cleanup:
            async with parts.sources, parts.post, parts.background:
                yield {"load": load}

    intelligence = Intelligence(parts)
    jobs = Jobs(config.workflows, intelligence, parts.deliveries, parts.background, parts.clock)
    calls = WorkflowCalls(parts, jobs)
    offered: dict[str, Understand] = {
        **dict.fromkeys(ANSWERS, intelligence.asked),
        "run_workflow": calls.run,
        "workflow_status": calls.status,
    }
    edge = Edge(parts, Tasks(parts, load, offered))
    app = Starlette(
        routes=[*Control(parts, jobs).routes(), *FileApi(parts, jobs).routes()], lifespan=lifespan
    )
    app.router.default = edge  # no pattern of a route matches a path with a line break in it
    return app


def _load_answers(parts: Parts) -> LoadAnswers:
    return LoadAnswers(
        parts.ledger,
        latency_seconds=lambda: parts.latency_seconds,
        ready=lambda: not parts.faults.rules and parts.throttle is None,
    )
