"""What every engine at Filestack shares: signed requests, uploads, and what its errors mean."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from tagmill.worker.engine_config import engine_config, engine_version
from tagmill.worker.engines.base import Whereabouts
from tagmill.worker.engines.exchange import Base, Exchange, Reply
from tagmill.worker.engines.filestack_policy import Policies, SignedPolicy
from tagmill.worker.engines.filestack_refusals import error_for, limit_reached, wait_seconds
from tagmill.worker.engines.filestack_urls import TaskTarget, UrlForm, checked_handle
from tagmill.worker.engines.transport import AiohttpTransport
from tagmill.worker.errors import (
    AccessDeniedError,
    ConfigError,
    CredentialsError,
    ImageNotFoundError,
    RetryableError,
    TaggingError,
)
from tagmill.worker.models import HANDLE

CDN_URL = "https://cdn.filestackcontent.com"
API_URL = "https://www.filestackapi.com/api"
UNSTATED_WAIT_SECONDS = 1.0
UPLOAD_BYTES_PER_SECOND = 1024 * 1024  #: the slowest upload that is waited for

OnLimit = Callable[[float], Awaitable[None]]  #: told how many seconds to stay quiet


@dataclass(frozen=True, slots=True)
class FilestackOptions:
    api_key: str = field(repr=False)
    app_secret: str = field(repr=False)
    name: str = "filestack"  #: the row's `engine`: `sandbox` when that is what answers
    cdn_url: str = CDN_URL
    api_url: str = API_URL
    call_timeout_seconds: float = 60.0  #: from connecting to the last byte of the answer
    connections: int = 64  #: at least as many as calls in flight, or they wait for each other
    tags_version: int | None = None
    resize_height: int | None = None  #: shrink to this many pixels before tagging
    url_form: UrlForm = UrlForm.PERCENT
    security_first: bool = True  #: False: between tasks and source, as older documentation has it
    policy_life_seconds: float = 3600.0
    config: Mapping[str, Any] = field(default_factory=dict)  #: what else answers depend on
    clock: Callable[[], float] = time.time


class FilestackService:
    """Policies are signed for one operation each: tagging, storing, removing, describing."""

    def __init__(
        self,
        options: FilestackOptions,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        on_limit: OnLimit | None = None,
    ) -> None:
        """`on_limit` hears of answers said to be the last for now. Raise `ConfigError`."""
        if not (options.api_key and options.app_secret):
            raise ConfigError("Filestack needs TAGMILL_FILESTACK_API_KEY and TAGMILL_FILESTACK_APP_SECRET")
        self.name = options.name
        self.version = engine_version(options.tags_version)
        self.config_hash = engine_config(
            options.name, options.tags_version, options.resize_height, options.config
        )
        self._api_key = options.api_key
        self._cdn = Base.parse(options.cdn_url, "TAGMILL_FILESTACK_CDN_URL")
        self._api = Base.parse(options.api_url, "TAGMILL_FILESTACK_API_URL")
        self._targets = _targets(options)
        self._policies = Policies(
            options.app_secret, life_seconds=options.policy_life_seconds, clock=options.clock
        )
        self._exchange = Exchange(
            transport or AiohttpTransport(connections=options.connections),
            timeout_seconds=options.call_timeout_seconds,
            clock=options.clock,
        )
        self._on_limit = on_limit

    async def upload(self, content: bytes, content_type: str, filename: str) -> str:
        """No paid call. One that breaks off after sending may leave a file behind."""
        signed = self._policies.allowing("store")
        target = f"/store/S3?{self._query(signed, filename=filename)}"
        patience = len(content) / UPLOAD_BYTES_PER_SECOND
        reply = await self._exchange.post(self._api, target, content, content_type, extra_seconds=patience)
        handle = _stored_handle(reply)
        if handle is None:
            raise self._error(reply, signed, unread="no handle" if reply.ok else "")
        return handle

    async def discard(self, handle: str) -> None:
        signed = self._policies.allowing("remove")
        target = f"/file/{checked_handle(handle)}?{self._query(signed)}"
        reply = await self._exchange.delete(self._api, target)
        if not reply.ok:
            with suppress(ImageNotFoundError):
                raise self._error(reply, signed)

    async def whereabouts(self, handle: str) -> Whereabouts | None:
        """Read the file's metadata: https://www.filestack.com/docs/api/file/ (fields by default)."""
        signed = self._policies.allowing("stat")
        query = urlencode({"policy": signed.policy, "signature": signed.signature})
        target = f"/file/{checked_handle(handle)}/metadata?{query}"
        reply = await self._exchange.get(self._api, target, billable=False)
        metadata = _json_object(reply)
        if metadata is None:
            raise self._error(reply, signed, unread="no metadata" if reply.ok else "")
        container, key = metadata.get("container"), metadata.get("key") or metadata.get("path")
        if not (isinstance(container, str) and isinstance(key, str)):
            return None
        return Whereabouts(container, key)

    async def aclose(self) -> None:
        await self._exchange.aclose()

    def _query(self, signed: SignedPolicy, **more: str) -> str:
        query = {"key": self._api_key, "policy": signed.policy, "signature": signed.signature, **more}
        return urlencode(query, errors="replace")

    def _error(self, reply: Reply, signed: SignedPolicy, *, unread: str = "") -> TaggingError:
        """A policy that expired by the server's clock is no refusal; the next one is signed by that clock."""
        error = error_for(reply, unread=unread)
        refused = isinstance(error, AccessDeniedError | CredentialsError)
        if not (refused and self._policies.expired(signed, reply.server_time)):
            return error
        return RetryableError(
            "the policy had expired by Filestack's clock and is signed anew; set this machine's clock",
            code="policy_expired",
            http_status=reply.status,
            calls=int(reply.billable),
            latency_ms=reply.latency_ms,
        )

    async def _report_limit(self, reply: Reply) -> None:
        if self._on_limit is not None and limit_reached(reply):
            with suppress(TaggingError):  # a paid answer outranks a lost hint
                await self._on_limit(wait_seconds(reply) or UNSTATED_WAIT_SECONDS)


def _targets(options: FilestackOptions) -> TaskTarget:
    return TaskTarget(
        options.api_key,
        version=options.tags_version,
        resize_height=options.resize_height,
        form=options.url_form,
        security_first=options.security_first,
    )


def _stored_handle(reply: Reply) -> str | None:
    """An upload's answer names it only as the last part of `url`."""
    answer = _json_object(reply)
    try:
        path = urlsplit(answer["url"]).path if answer is not None else ""
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    handle = path.rstrip("/").rpartition("/")[2]
    return handle if HANDLE.fullmatch(handle) else None


def _json_object(reply: Reply) -> dict[str, Any] | None:
    try:
        value = json.loads(reply.body) if reply.ok else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
