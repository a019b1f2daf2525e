"""Tags of a local image in a file beside it: `photo.jpg` gets `photo.jpg.tags.json`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tagmill.worker.errors import SinkRejectedError
from tagmill.worker.models import SCHEMA, ImageRef, Json, LocalFile, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging

T = TypeVar("T")

SUFFIX = b".tags.json"
GENERATOR = "tagmill"
#: A larger file under our name was not written by us, and is not read into memory to find out.
MAX_BYTES = 1024 * 1024


class ForeignFileError(Exception):
    """Someone else's file has the sidecar's name."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One sidecar as it stands on disk."""

    text: str
    content: Json


class SidecarSink:
    """Writes beside the image, whole or not at all; the image itself is not opened."""

    name = "sidecar"

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        """Write unless it says so already; `keep` gets what another run wrote, just before."""
        if not isinstance(ref.source, LocalFile):
            return Write(WriteStatus.SKIPPED, reason="not_local")
        try:
            return await self._write(ref.source, tagging, keep)
        except ForeignFileError:
            return Write(WriteStatus.SKIPPED, reason="foreign_file")

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _write(self, image: LocalFile, tagging: Tagging, keep: Keep) -> Write:
        if not await _on_disk(_is_as_planned, image):
            return Write(WriteStatus.STALE, reason="content_changed")
        path, content = sidecar_path(image), sidecar_content(image, tagging)
        previous = await _on_disk(_read, path)
        if previous is not None and _says(previous.content, content):
            return Write(WriteStatus.UNCHANGED)
        if previous is None or previous.content.get("run") != tagging.run_id:
            await keep({"sink": self.name, "content": previous.text if previous else None})
        await _on_disk(_replace, path, _text(content))
        return Write(WriteStatus.WRITTEN)


async def _on_disk(call: Callable[..., T], *args: object) -> T:
    """Off the event loop, with the system's refusals in our terms."""
    try:
        return await asyncio.to_thread(call, *args)
    except OSError as error:
        raise _rejected(error) from error


def sidecar_path(image: LocalFile) -> bytes:
    return image.absolute + SUFFIX


def sidecar_content(image: LocalFile, tagging: Tagging) -> Json:
    """The file's JSON. Nothing in it differs between two writes of the same answer by the same run."""
    return {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "run": tagging.run_id,
        "engine": tagging.engine,
        "engine_config": tagging.engine_config,
        "policy": tagging.policy,
        "source": {"size": image.size, "mtime_ns": image.mtime_ns},
        "tags": dict(tagging.tags),
    }


def _text(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _says(old: Json, new: Json) -> bool:
    """Whether both say the same. Which run said it does not matter."""
    same: bool = {**old, "run": None} == json.loads(_text({**new, "run": None}))
    return same


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
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    return Sidecar(text, _parse(text))


def _parse(text: str) -> Json:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ForeignFileError from error
    if not isinstance(content, dict) or content.get("generator") != GENERATOR:
        raise ForeignFileError
    return content


def _replace(path: bytes, text: str) -> None:
    """Atomic and durable: a reader sees the old file or the new one, also after a power cut."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".tagmill-{secrets.token_hex(8)}.tmp".encode())
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


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
