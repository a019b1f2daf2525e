"""The receiver as an ASGI application: checks who speaks, and answers once it is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import RunStoreUnavailableError, TaggingError
from tagmill.worker.webhooks.receiver import Receiver

MAX_BODY_BYTES = 5 * 1024 * 1024
BODY_SECONDS = 30.0  #: for the whole body
RETRY_AFTER = {"Retry-After": "30"}
NOT_STORED = "webhook_not_stored"  #: log event

log = structlog.get_logger()


def create_app(receiver: Receiver, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    described = describe()
    complaints = Complaints()

    async def receive(request: Request) -> Response:
        endpoint = receiver.endpoints.get(request.path_params["endpoint"])
        if endpoint is None:
            raise HTTPException(404)
        body = await _body(request)
        headers = request.headers
        vouching = headers.getlist("fs-timestamp"), headers.getlist("fs-signature")
        if not endpoint.accepts(*vouching, body):
            receiver.refusals.count(endpoint.name)
            raise HTTPException(401, "the signature is missing or wrong")
        try:
            await receiver.keep(endpoint.name, body)
        except RunStoreUnavailableError as error:
            complaints.say(NOT_STORED, error)
            raise HTTPException(503, "the run store is unavailable; send it again", RETRY_AFTER) from None
        complaints.forget(NOT_STORED)
        return JSONResponse({"status": "received"})

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        try:
            await receiver.check()
        except TaggingError as error:
            log.warning("receiver_not_ready", error=str(error))
            raise HTTPException(503, "the run store is unavailable", RETRY_AFTER) from None
        return JSONResponse({"status": "ready"})

    async def openapi(_: Request) -> Response:
        return JSONResponse(described)

    return Starlette(
        routes=[
            Route("/webhooks/filestack/{endpoint}", receive, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refusal},
        lifespan=lifespan,
    )


def describe() -> dict[str, Any]:
    """Return the description of what the receiver does, in OpenAPI 3.1."""
    text = resources.files(__package__).joinpath("openapi.json").read_text()
    described: dict[str, Any] = json.loads(text)
    described["info"]["version"] = version("tagmill")
    return described


async def _body(request: Request) -> bytes:
    """Read no more than the limit, whatever length was announced."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise HTTPException(413, f"more than {MAX_BODY_BYTES} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for block in request.stream():
                body += block
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413, f"more than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise HTTPException(408, "the body takes too long") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body is incomplete") from None
    return bytes(body)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type
    headers: Mapping[str, str] | None = error.headers
    return JSONResponse({"error": error.detail}, error.status_code, headers)
