"""A real worker that trips over one image with every secret in its hands: `leaky_worker.py HANDLE`."""

from __future__ import annotations

import logging
import os
import sys

from tagmill.worker import serve
from tagmill.worker.engines.base import Locator
from tagmill.worker.models import Answer, Pending
from tagmill.worker.tagger import Tagger

SECRETS = (
    "TAGMILL_FILESTACK_API_KEY",
    "TAGMILL_FILESTACK_APP_SECRET",
    "TAGMILL_REDIS_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_ask = Tagger.ask


def _trip_over(handle: str) -> None:
    async def ask(self: Tagger, locator: Locator, so_far: Answer | None) -> Answer | Pending:
        if locator.value == handle:
            secrets = " ".join(os.environ[name] for name in SECRETS)
            logging.getLogger("somebody.else").debug("connecting with %s", secrets)
            raise RuntimeError(f"cannot work with {secrets}")
        return await _ask(self, locator, so_far)

    Tagger.ask = ask  # type: ignore[method-assign] # children are forked, so they have it too


if __name__ == "__main__":
    _trip_over(sys.argv.pop())
    sys.exit(serve.main())
