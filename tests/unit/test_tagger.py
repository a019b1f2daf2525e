"""How one image gets to the engine: as it is, or uploaded once and cleaned up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.scripted import ScriptedEngine

from tagmill.worker import tagger
from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.errors import CredentialsError, EngineUnavailableError, ImageRejectedError
from tagmill.worker.models import BadLine, Handle, ImageRef, LocalFile
from tagmill.worker.tagger import Tagger
from tagmill.worker.transfer import Transfers

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


class Notes:
    """What was to be remembered of uploads."""

    def __init__(self) -> None:
        self.handles: list[str | None] = []

    async def __call__(self, handle: str | None) -> None:
        self.handles.append(handle)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def notes() -> Notes:
    return Notes()


def a_tagger(engine: ScriptedEngine, *, keep_uploads: bool = False) -> Tagger:
    return Tagger(engine, Transfers(), keep_uploads=keep_uploads)


def picture(folder: Path, name: str = "a.png", content: bytes = PNG) -> ImageRef:
    (folder / name).write_bytes(content)
    return ImageRef(LocalFile.at(bytes(folder), name.encode(), len(content), 0), fresh=True)


async def test_a_handle_needs_no_upload(engine: ScriptedEngine, notes: Notes) -> None:
    locator = await a_tagger(engine).locate(ImageRef(Handle("abc"), fresh=True), None, notes)
    assert (locator.transfer, locator.value, locator.fresh) == (Transfer.HANDLE, "abc", True)
    assert (engine.upload_calls, notes.handles) == (0, [])


async def test_a_file_is_uploaded_and_remembered(
    engine: ScriptedEngine, notes: Notes, tmp_path: Path
) -> None:
    locator = await a_tagger(engine).locate(picture(tmp_path), None, notes)
    assert engine.uploads == {locator.value: PNG}
    assert (locator.transfer, locator.fresh, notes.handles) == (Transfer.UPLOAD, True, [locator.value])


async def test_an_earlier_upload_is_used_again(engine: ScriptedEngine, notes: Notes, tmp_path: Path) -> None:
    locator = await a_tagger(engine).locate(picture(tmp_path), "earlier", notes)
    assert locator == Locator(Transfer.UPLOAD, "earlier", fresh=True)
    assert (engine.upload_calls, notes.handles) == (0, [])


@pytest.mark.parametrize("source", [BadLine("list.txt", 3, "no handle")])
async def test_what_cannot_be_an_image_is_refused_before_any_call(
    engine: ScriptedEngine, notes: Notes, source: BadLine
) -> None:
    with pytest.raises(ImageRejectedError, match="no handle"):
        await a_tagger(engine).locate(ImageRef(source), None, notes)


async def test_few_images_are_in_memory_at_a_time(
    notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger, "IMAGES_IN_MEMORY", 2)
    engine = CountingEngine()
    uploader = a_tagger(engine)
    await asyncio.gather(*(uploader.locate(picture(tmp_path, f"{n}.png"), None, notes) for n in range(9)))
    assert (engine.upload_calls, engine.most) == (9, 2)


class CountingEngine(ScriptedEngine):
    """Counts uploads at the same moment."""

    now = most = 0

    async def upload(self, content: bytes, content_type: str, filename: str) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return await super().upload(content, content_type, filename)


# --- cleaning up ------------------------------------------------------------------------------------------


async def test_an_upload_is_discarded_and_then_forgotten(engine: ScriptedEngine, notes: Notes) -> None:
    engine.uploads["abc"] = PNG
    await a_tagger(engine).clean_up("abc", notes)
    assert (engine.uploads, notes.handles) == ({}, [None])


async def test_without_an_upload_there_is_nothing_to_discard(engine: ScriptedEngine, notes: Notes) -> None:
    await a_tagger(engine).clean_up(None, notes)
    assert notes.handles == []


async def test_an_upload_that_is_to_stay_is_kept(engine: ScriptedEngine, notes: Notes) -> None:
    engine.uploads["abc"] = PNG
    await a_tagger(engine, keep_uploads=True).clean_up("abc", notes)
    assert (list(engine.uploads), notes.handles) == (["abc"], [])


async def test_an_upload_that_cannot_be_discarded_is_left(engine: ScriptedEngine, notes: Notes) -> None:
    engine.discard_failures = [EngineUnavailableError("down")]
    await a_tagger(engine).clean_up("abc", notes)
    assert notes.handles == [None]


async def test_the_accounts_failure_while_discarding_keeps_the_note(
    engine: ScriptedEngine, notes: Notes
) -> None:
    engine.discard_failures = [CredentialsError("who?")]
    with pytest.raises(CredentialsError):
        await a_tagger(engine).clean_up("abc", notes)
    assert notes.handles == []
