"""A real worker that one image kills, as a crash in a native library would: `poison_worker.py HANDLE`."""

from __future__ import annotations

import os
import signal
import sys

from tagmill.worker import serve
from tagmill.worker.engines.base import Locator
from tagmill.worker.models import Answer, Pending
from tagmill.worker.tagger import Tagger

_ask = Tagger.ask


def _die_of(handle: str) -> None:
    async def ask(self: Tagger, locator: Locator, so_far: Answer | None) -> Answer | Pending:
        if locator.value == handle:
            os.kill(os.getpid(), signal.SIGKILL)
        return await _ask(self, locator, so_far)

    Tagger.ask = ask  # type: ignore[method-assign] # children are forked, so they have it too


if __name__ == "__main__":
    _die_of(sys.argv.pop())
    sys.exit(serve.main())
