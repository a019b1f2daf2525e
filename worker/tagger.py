"""One image to one answer: find it, upload it where that must be, ask the engine, clean up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tagmill.worker.engines.base import Engine, Locator, Transfer
from tagmill.worker.errors import ItemError
from tagmill.worker.models import Answer, ImageRef, Pending
from tagmill.worker.transfer import Content, Transfers

IMAGES_IN_MEMORY = 8  #: at a time in a process: there are more lanes than memory for photographs
KeepUpload = Callable[[str | None], Awaitable[None]]  #: remembers an upload, or that it is discarded

log = structlog.get_logger()


class Tagger:
    """`keep_uploads`: uploads stay at the service after tagging."""

    def __init__(self, engine: Engine, transfers: Transfers, *, keep_uploads: bool) -> None:
        self.engine = engine
        self._transfers, self._keep_uploads = transfers, keep_uploads
        self._in_memory = asyncio.Semaphore(IMAGES_IN_MEMORY)

    async def locate(self, ref: ImageRef, upload: str | None, keep: KeepUpload) -> Locator:
        """Return where the engine finds the image, uploaded if need be; `upload` is an earlier one."""
        if upload is not None:
            return Locator(Transfer.UPLOAD, upload, fresh=ref.fresh)
        async with self._in_memory:
            located = await self._transfers.locate(ref)
            if not isinstance(located, Content):
                return located
            handle = await self.engine.upload(located.data, located.content_type, located.filename)
        await keep(handle)
        return Locator(Transfer.UPLOAD, handle, fresh=ref.fresh)

    async def ask(self, locator: Locator, so_far: Answer | None) -> Answer | Pending:
        return await self.engine.start(locator, so_far)

    async def clean_up(self, handle: str | None, keep: KeepUpload) -> None:
        """Discard an upload; one that cannot be discarded now is logged and left."""
        if handle is None or self._keep_uploads:
            return
        try:
            await self.engine.discard(handle)
        except ItemError as error:
            log.warning("upload_left_behind", handle=handle, code=error.code)
        await keep(None)
