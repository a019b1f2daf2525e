"""Group commit: what many lanes write at the same moment shares one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

GATHER_SECONDS = 0.005  #: for company to arrive: nearly halves the CPU of a journal at 400 images/s

Item = TypeVar("Item")


class _Batch(Generic[Item]):
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class GroupCommit(Generic[Item]):
    """Collects items while a write is under way, and writes them together after it."""

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._write, self._sleep = write, sleep
        self._open: _Batch[Item] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def put(self, *items: Item) -> None:
        """Return when the items are written, all in one write; raise what the write raised.

        A caller that is cancelled stops waiting, its items are written all the same.
        """
        if self._open is None:
            self._open = _Batch()
        batch = self._open
        batch.items.extend(items)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_batches())
        await asyncio.shield(batch.written)

    async def _write_batches(self) -> None:
        try:
            while batch := self._open:
                await self._sleep(GATHER_SECONDS)
                self._open = None
                await self._write_batch(batch)
        finally:
            self._writer = None

    async def _write_batch(self, batch: _Batch[Item]) -> None:
        try:
            await self._write(batch.items)
        except asyncio.CancelledError:
            batch.written.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the lanes must hear of it
            batch.written.set_exception(error)
            batch.written.exception()  # lanes that were cancelled will not ask
        else:
            batch.written.set_result(None)
