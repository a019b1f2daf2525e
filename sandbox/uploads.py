"""Reads what an upload request carries: raw bytes, a multipart `fileUpload`, or a `url` to fetch."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from tagmill.sandbox.access import STORE, STORE_URL
from tagmill.sandbox.files import MOST_BYTES, TooMuchError, discard
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.replies import Refusal, text_reply
from tagmill.sandbox.urls import AddressError, UrlSource, read_url

UNKNOWN_TYPE = "application/octet-stream"
_LONGEST_JSON = 16_384  #: bytes; a JSON body beyond it is a file, not a request
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that was received; whoever takes it over moves or removes it."""

    path: str
    filename: str
    mimetype: str
    url: str | None = None  #: where it was fetched from

    @property
    def calls(self) -> tuple[str, ...]:
        """Which policy calls allow it."""
        return STORE if self.url is None else STORE_URL


async def receive_upload(request: Request, parts: Parts) -> Incoming:
    """Raise Refusal."""
    if int(request.headers.get("content-length", 0)) > MOST_BYTES:
        raise Refusal(text_reply(413, "Payload Too Large"))
    mimetype = request.headers.get("content-type", UNKNOWN_TYPE).partition(";")[0].strip().lower()
    try:
        if mimetype in {"multipart/form-data", "application/x-www-form-urlencoded"}:
            return await _from_form(request, parts)
        return await _from_body(request, parts, mimetype)
    except TooMuchError as error:
        raise Refusal(text_reply(413, "Payload Too Large")) from error
    except ClientDisconnect as error:
        raise Refusal(text_reply(400, "the upload was cut short")) from error


async def _from_body(request: Request, parts: Parts, mimetype: str) -> Incoming:
    path = await parts.files.receive(request.stream())
    url = _url_in(path) if mimetype == "application/json" else None
    if url is not None:
        discard(path)
        return await _from_url(url, parts)
    filename = request.query_params.get("filename") or unquote(request.headers.get("x-file-name", ""))
    return Incoming(path, filename or "upload", mimetype)


async def _from_form(request: Request, parts: Parts) -> Incoming:
    async with request.form() as form:
        upload, url = form.get("fileUpload"), form.get("url")
        if isinstance(upload, UploadFile):
            path = await parts.files.receive(_blocks(upload))
            return Incoming(path, upload.filename or "upload", upload.content_type or UNKNOWN_TYPE)
    if isinstance(url, str):
        return await _from_url(url, parts)
    raise Refusal(text_reply(400, "an upload needs a body, a fileUpload or a url"))


async def _from_url(url: str, parts: Parts) -> Incoming:
    try:
        source: UrlSource = read_url(url)
    except AddressError as error:
        raise Refusal(text_reply(400, str(error))) from error
    path = await parts.sources.fetch(source.url)
    name = os.path.basename(unquote(urlsplit(source.url).path))
    return Incoming(path, name or "upload", UNKNOWN_TYPE, source.url)


async def _blocks(upload: UploadFile) -> AsyncIterator[bytes]:
    while block := await upload.read(_BLOCK):
        yield block


def _url_in(path: str) -> str | None:
    """The URL of `{"url": …}`; any other JSON is content."""
    if os.path.getsize(path) > _LONGEST_JSON:
        return None
    try:
        with open(path, "rb") as body:
            value = json.load(body)
    except ValueError:
        return None
    named = isinstance(value, dict) and value.keys() == {"url"} and isinstance(value["url"], str)
    return value["url"] if named else None
