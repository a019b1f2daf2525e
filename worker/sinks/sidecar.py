"""Tags of a local image in a file beside it: `photo.jpg` gets `photo.jpg.tags.json`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from typing import TypeVar

from tagmill.worker.errors import SinkRejectedError
from tagmill.worker.models import ImageRef, Json, LocalFile, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging, Written, marker, skipped
from tagmill.worker.sinks.sidecar_json import (
    ForeignFileError,
    PreviousLostError,
    Sidecar,
    is_as_written,
    is_put_back,
    new_text,
    previous,
    source_json,
    text_before,
)

T = TypeVar("T")

SUFFIX = b".tags.json"
#: A larger file under our name was not written by us, and is not read into memory to find out.
MAX_BYTES = 1024 * 1024


class SidecarSink:
    """Writes beside the image, whole or not at all; the image itself is not opened."""

    name = "sidecar"

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it says so already; `keep` gets what another run wrote, just before."""
        if not isinstance(ref.source, LocalFile):
            return skipped("not_local")
        try:
            return await self._write(ref, ref.source, tagging, keep)
        except ForeignFileError:
            return skipped("foreign_file")

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        """The image is not looked at: the sidecar is ours, whatever became of the image."""
        if not isinstance(ref.source, LocalFile):
            return skipped("not_local")
        try:
            return await self._undo(sidecar_path(ref.source), source_json(ref), written)
        except ForeignFileError:
            return written.not_ours()
        except PreviousLostError:
            return skipped("previous_lost")

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool:
        if not isinstance(ref.source, LocalFile) or not await _on_disk(_is_as_planned, ref.source):
            return False
        try:
            standing = await _on_disk(_read, sidecar_path(ref.source))
        except ForeignFileError:
            return False
        if standing is None or standing.run == run_id:
            return False
        return standing.marker == marker(engine_config, policy) and standing.tells_of(source_json(ref))

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _write(self, ref: ImageRef, image: LocalFile, tagging: Tagging, keep: Keep) -> Write:
        if not await _on_disk(_is_as_planned, image):
            return Write(WriteStatus.STALE, reason="content_changed")
        path, source = sidecar_path(image), source_json(ref)
        standing = await _on_disk(_read, path)
        if standing is not None and standing.says(tagging, source):
            return Write(WriteStatus.UNCHANGED)
        if standing is None or standing.run != tagging.run_id:
            await keep(previous(self.name, standing))
        await _on_disk(_replace, path, new_text(tagging, source, standing))
        return Write(WriteStatus.WRITTEN)

    async def _undo(self, path: bytes, source: Json, written: Written) -> Write:
        standing = await _on_disk(_read, path)
        if standing is None or is_put_back(standing, written):
            return Write(WriteStatus.UNCHANGED)
        if not is_as_written(standing, written, source):
            return written.not_ours()
        await _on_disk(_put_back, path, await text_before(standing, written))
        return Write(WriteStatus.WRITTEN)


async def _on_disk(call: Callable[..., T], *args: object) -> T:
    """Off the event loop, with the system's refusals in our terms."""
    try:
        return await asyncio.to_thread(call, *args)
    except OSError as error:
        raise _rejected(error) from error


def sidecar_path(image: LocalFile) -> bytes:
    return image.absolute + SUFFIX


def _is_as_planned(image: LocalFile) -> bool:
    now = os.stat(image.absolute)
    return (now.st_size, now.st_mtime_ns) == (image.size, image.mtime_ns)


def _read(path: bytes) -> Sidecar | None:
    """Our earlier sidecar, or None. Raise ForeignFileError for anything else, which is never replaced."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        raise ForeignFileError
    with open(path, "rb") as file:
        return Sidecar.parse(file.read())


def _replace(path: bytes, text: str) -> None:
    """Atomic and durable: a reader sees the old file or the new one, also after a power cut."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".tagmill-{secrets.token_hex(8)}.tmp".encode())
    try:
        with open(temporary, "xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _put_back(path: bytes, text: str | None) -> None:
    if text is not None:
        _replace(path, text)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    _sync_folder(os.path.dirname(path))


def _sync_folder(folder: bytes) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rejected(error: OSError) -> SinkRejectedError:
    """One line: what the system said, and what to do. The path is the row's."""
    if error.errno == errno.ENOENT:
        return SinkRejectedError("the image is gone", code="missing")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return SinkRejectedError(f"no sidecar: {error.strerror}; make the folder writable for the worker")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SinkRejectedError(f"no sidecar: {error.strerror}; free some space, then retry the write")
    return SinkRejectedError(f"no sidecar: {error.strerror}")
