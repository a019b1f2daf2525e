"""Whether the tagging service takes our credentials and policies, tried with a picture of our own."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tagmill.config.settings import Settings
from tagmill.worker.assembly import filestack_options
from tagmill.worker.check import Check
from tagmill.worker.engines.base import Locator, Transfer, Whereabouts
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.errors import TaggingError
from tagmill.worker.models import Answer

T = TypeVar("T")

#: A PNG of one white pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
)
FILENAME = "tagmill-doctor.png"
STORE, STAT, TAGS, REMOVE, ALIAS = (
    f"filestack {name}" for name in ("store", "stat", "tags", "remove", "alias")
)
MENDS = {
    STORE: "check key and secret, and that the app may store files",
    STAT: "let the app's security allow `stat`",
    TAGS: "image tagging must be part of the plan, and the app's security allow `convert` and `read`",
    REMOVE: "let the app's security allow `remove`, and delete the picture by hand",
    ALIAS: "check TAGMILL_FILESTACK_STORAGE_ALIAS, and that the alias leads to this bucket",
}


class Checkup:
    def __init__(self, engine: FilestackEngine) -> None:
        self._engine = engine
        self.checks: list[Check] = []

    async def credentials(self, *, may_pay: bool) -> None:
        """Store a picture and remove it again; `may_pay` allows one tags call in between."""
        engine = self._engine
        handle = await self._try(STORE, engine.upload(PIXEL, "image/png", FILENAME), _stored)
        if handle is None:
            return
        await self._try(STAT, engine.whereabouts(handle), _described)
        if may_pay:
            await self._try(TAGS, engine.start(Locator(Transfer.HANDLE, handle)), _answered)
        await self._try(REMOVE, engine.discard(handle), _removed)

    async def alias(self, alias: str, key: str) -> None:
        """One tags call for an image of the bucket."""
        locator = Locator(Transfer.ALIAS, f"src://{alias}/{key}")
        await self._try(ALIAS, self._engine.start(locator), _answered)

    async def _try(self, name: str, looking: Awaitable[T], says: Callable[[T], str]) -> T | None:
        try:
            found = await looking
        except TaggingError as error:
            self.checks.append(Check(name, passed=False, found=f"{error}; {MENDS[name]}"))
            return None
        self.checks.append(Check(name, passed=True, found=says(found)))
        return found


async def check_filestack(settings: Settings, *, may_pay: bool, key: str | None) -> list[Check]:
    """`key`: of an image in the bucket that the storage alias leads to, if there is one."""
    engine = FilestackEngine(filestack_options(settings, "filestack", connections=1), on_limit=_shrug)
    checkup = Checkup(engine)
    try:
        await checkup.credentials(may_pay=may_pay)
        if may_pay and key is not None and settings.filestack_storage_alias is not None:
            await checkup.alias(settings.filestack_storage_alias, key)
    finally:
        await engine.aclose()
    return checkup.checks


def _stored(_handle: str) -> str:
    return "key and secret are good, a picture was stored"


def _described(found: Whereabouts | None) -> str:
    return f"metadata can be read: its bytes are in {found.container}" if found else "metadata can be read"


def _answered(answer: Answer) -> str:
    return f"one call was answered in {answer.latency_ms} ms with {len(answer.tags['auto'])} labels"


def _removed(_: None) -> str:
    return "the picture is removed"


async def _shrug(_seconds: float) -> None:
    """Nobody else waits for this process's limit."""
