"""The File API: https://www.filestack.com/docs/api/file/."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagmill.sandbox.access import READ, REMOVE, STAT, STORE_URL, WRITE, permit_file, permit_upload
from tagmill.sandbox.edge import deliver
from tagmill.sandbox.endpoint import Endpoint
from tagmill.sandbox.faults import Operation
from tagmill.sandbox.files import StoredFile, discard
from tagmill.sandbox.jobs import Jobs
from tagmill.sandbox.metadata import describe
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.policies import Policy, PolicyError
from tagmill.sandbox.replies import Refusal, Reply, json_reply, not_found, traced_reply
from tagmill.sandbox.uploads import UNKNOWN_TYPE, Incoming, receive_upload

CLIENT = "Computer"  #: as samples of webhooks have it


class FileApi:
    def __init__(self, parts: Parts, jobs: Jobs) -> None:
        self._parts, self._jobs = parts, jobs

    def routes(self) -> list[Route]:
        faults = self._parts.faults
        store = Endpoint(self.store, faults, Operation.STORE)
        delete = Endpoint(self.delete, faults, Operation.DELETE)
        file = "/api/file/{handle}"
        return [
            Route("/api/store/{location}", store, methods=["POST"]),
            Route(f"{file}/metadata", Endpoint(self.metadata), methods=["GET"]),
            Route(file, Endpoint(self.read), methods=["GET", "HEAD"]),
            Route(file, Endpoint(self.overwrite), methods=["POST", "PUT"]),
            Route(file, delete, methods=["DELETE"]),
        ]

    async def store(self, request: Request) -> Reply:
        policy = permit_upload(self._parts.config, request, STORE_URL, self._parts.clock())
        incoming = await receive_upload(request, self._parts)
        with _discarding(incoming.path):
            _check_upload(policy, incoming)
            stored = self._parts.files.add(incoming.path, incoming.filename, _mimetype(incoming))
        self._parts.ledger.uploads += 1
        fields = {
            "size": stored.size,
            "type": stored.mimetype,
            "filename": stored.filename,
            "key": stored.key,
        }
        told = {"url": f"{request.base_url}{stored.handle}", **fields}
        where = {"container": self._parts.config.container, "client": CLIENT, "status": "Stored"}
        self._parts.deliveries.emit("fp.upload", stored.handle, {**where, **told})
        jobs = self._jobs.start_by_upload(stored.handle)
        started = {"workflows": {job.workflow.id: {"jobid": job.id} for job in jobs}} if jobs else {}
        return json_reply(200, {**told, **started})

    async def overwrite(self, request: Request) -> Reply:
        permit_file(self._parts.config, request, WRITE, self._parts.clock())
        stored = self._stored(request)
        incoming = await receive_upload(request, self._parts)
        with _discarding(incoming.path):
            changed = self._parts.files.overwrite(stored, incoming.path)
        fields = {"mimetype": changed.mimetype, "isWriteable": True, "size": changed.size}
        told = {"url": f"{request.base_url}{changed.handle}", **fields, "filename": changed.filename}
        self._parts.deliveries.emit("fp.overwrite", changed.handle, {**told, "client": CLIENT})
        return json_reply(200, told)

    async def read(self, request: Request) -> Response:
        permit_file(self._parts.config, request, READ, self._parts.clock())
        return deliver(self._parts, request.path_params["handle"])

    async def metadata(self, request: Request) -> Reply:
        permit_file(self._parts.config, request, STAT, self._parts.clock())
        files, container = self._parts.files, self._parts.config.container
        work = partial(describe, files, container, self._stored(request), request.query_params)
        return json_reply(200, await anyio.to_thread.run_sync(work))

    async def delete(self, request: Request) -> Reply:
        permit_file(self._parts.config, request, REMOVE, self._parts.clock())
        stored = self._stored(request)
        self._parts.files.remove(stored.handle)
        self._parts.ledger.deletes += 1
        url = f"{request.base_url}{stored.handle}"
        self._parts.deliveries.emit("fp.delete", stored.handle, {"url": url})
        return json_reply(200, {"success": True})

    def _stored(self, request: Request) -> StoredFile:
        stored = self._parts.files.get(request.path_params["handle"])
        if stored is None:
            raise Refusal(not_found())
        return stored


def _check_upload(policy: Policy, incoming: Incoming) -> None:
    size = os.path.getsize(incoming.path)
    try:
        allowed = policy.allows(*incoming.calls) and (incoming.url is None or policy.allows_url(incoming.url))
    except PolicyError:
        allowed = False
    if not allowed or size < policy.min_size or (policy.max_size is not None and size > policy.max_size):
        raise Refusal(traced_reply(403, "Invalid App policy"))


def _mimetype(incoming: Incoming) -> str:
    if incoming.mimetype != UNKNOWN_TYPE:
        return incoming.mimetype
    return mimetypes.guess_type(incoming.filename)[0] or UNKNOWN_TYPE


@contextmanager
def _discarding(path: str) -> Iterator[None]:
    """Remove what was received unless it was taken over."""
    try:
        yield
    finally:
        discard(path)
