"""Gets hold of the image that a request names: an upload, an object behind an alias, an external URL."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

import yarl

from tagmill.sandbox.client import Client, NoAnswerError
from tagmill.sandbox.files import FileStore, TooMuchError, discard
from tagmill.sandbox.replies import Refusal, not_found, provider_error
from tagmill.sandbox.urls import AliasSource, HandleSource, Source, UrlSource

FETCH_SECONDS = 30.0
MOST_REDIRECTS = 5
_GONE = (404, 410)
_HTTP = ("http://", "https://")


class Sources(Client):
    """Open with `async with`."""

    def __init__(self, files: FileStore, aliases: Mapping[str, str]) -> None:
        super().__init__(FETCH_SECONDS)
        self._files = files
        self._aliases = aliases

    @asynccontextmanager
    async def opened(self, source: Source) -> AsyncIterator[bytes]:
        """The path of a local copy, good inside the block. Raise Refusal."""
        local = self._local(source)
        if local is not None:
            yield local
            return
        fetched = await self.fetch(self._url(source))
        try:
            yield os.fsencode(fetched)
        finally:
            discard(fetched)

    async def fetch(self, url: str) -> str:
        """Download to a file that the caller removes. Raise Refusal."""
        try:
            whole = yarl.URL(url, encoded=True)
            async with self.request("GET", whole, max_redirects=MOST_REDIRECTS) as response:
                _check(response.status)
                return await self._files.receive(response.content.iter_chunked(2**16))
        except TooMuchError as error:
            raise Refusal(provider_error(400, "http", "the source is too large")) from error
        except NoAnswerError as error:
            raise Refusal(provider_error(500, "http", "the source did not answer")) from error

    def _local(self, source: Source) -> bytes | None:
        if isinstance(source, HandleSource):
            return _existing(os.fsencode(self._files.path(source.handle)))
        if isinstance(source, AliasSource) and not self._target(source).startswith(_HTTP):
            return _inside(self._target(source), source.path)
        return None

    def _url(self, source: Source) -> str:
        if isinstance(source, AliasSource):
            key = quote(source.path.encode(errors="surrogateescape"), safe="/-._~")
            return f"{self._target(source).rstrip('/')}/{key}"
        assert isinstance(source, UrlSource)  # noqa: S101 - a handle is a local file
        return source.url

    def _target(self, source: AliasSource) -> str:
        if source.alias not in self._aliases:
            raise Refusal(provider_error(403, "storage", "unknown storage alias"))
        return self._aliases[source.alias]


def _check(status: int) -> None:
    """Which status the service answers for a source's own failure is not known."""
    if status in _GONE:
        raise Refusal(not_found())
    if status >= 500:  # noqa: PLR2004 - the source's server failed
        raise Refusal(provider_error(500, "http", f"the source answered {status}"))
    if status != 200:  # noqa: PLR2004 - OK
        raise Refusal(provider_error(400, "http", f"the source answered {status}"))


def _inside(folder: str, path: str) -> bytes:
    """A file below the folder, wherever `..` and links in the path lead."""
    root = os.path.realpath(os.fsencode(folder))
    file = os.path.realpath(os.path.join(root, os.fsencode(path.lstrip("/"))))
    if os.path.commonpath([root, file]) != root:
        raise Refusal(not_found())
    return _existing(file)


def _existing(file: bytes) -> bytes:
    if not os.path.isfile(file):
        raise Refusal(not_found())
    return file
