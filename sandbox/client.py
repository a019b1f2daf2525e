"""The sandbox's HTTP client, for images elsewhere and for webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import yarl

if TYPE_CHECKING:
    import aiohttp


class NoAnswerError(Exception):
    """The server did not answer, or its address is none."""


class Client:
    """Open with `async with`. It is made at the first request: most trials make none."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: what a request may take in all."""
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self, method: str, url: yarl.URL | str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer. Raise NoAnswerError, also for one that breaks off."""
        import aiohttp  # noqa: PLC0415 - half of what a sandbox takes to start

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._seconds), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._session.request(method, url, **options) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NoAnswerError from error
