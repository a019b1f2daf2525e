"""Tags of a Filestack handle in the run store: `runs/<run>/sidecars/<handle>.tags.json`."""

from __future__ import annotations

import asyncio

from tagmill.worker.models import Handle, ImageRef, Write, WriteStatus
from tagmill.worker.sidecar_prefix import SUFFIX
from tagmill.worker.sinks.base import Keep, Tagging, Written, skipped
from tagmill.worker.sinks.sidecar_json import Sidecar, is_as_written, new_text, previous, source_json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder


class StoreSidecarSink:
    """Each run has files of its own, so that none is ever in another's way."""

    name = "sidecar"

    def __init__(self, files: Files) -> None:
        self._files = files

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        if not isinstance(ref.source, Handle):
            return skipped("no_handle")
        name, source = _name(tagging.run_id, ref.source), source_json(ref)
        standing = await asyncio.to_thread(self._read, name)
        if standing is not None and standing.says(tagging, source):
            return Write(WriteStatus.UNCHANGED)
        if standing is None:
            await keep(previous(self.name, None))
        text = new_text(tagging, source, standing)
        await asyncio.to_thread(self._files.replace, name, [text.encode()])
        return Write(WriteStatus.WRITTEN)

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        if not isinstance(ref.source, Handle):
            return skipped("no_handle")
        name = _name(written.run_id, ref.source)
        standing = await asyncio.to_thread(self._read, name)
        if standing is None:
            return Write(WriteStatus.UNCHANGED)
        if not is_as_written(standing, written, source_json(ref)):
            return written.not_ours()
        await asyncio.to_thread(self._files.remove, name)
        return Write(WriteStatus.WRITTEN)

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool:  # noqa: ARG002 - the protocol's
        """Other runs' sidecars are not looked for."""
        return False

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _read(self, name: str) -> Sidecar | None:
        try:
            return Sidecar.parse(self._files.read(name))
        except FileNotFoundError:
            return None


def _name(run_id: str, image: Handle) -> str:
    return f"{run_folder(run_id)}/sidecars/{image.handle}{SUFFIX}"
