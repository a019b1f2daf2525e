"""What keeps going wrong is said when it begins and when it changes, not at every look."""

from __future__ import annotations

import structlog

from tagmill.worker.errors import TaggingError

log = structlog.get_logger()


class Complaints:
    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, event: str, error: TaggingError) -> None:
        if self._said.get(event) != str(error):
            log.warning(event, code=error.code, error=str(error))
        self._said[event] = str(error)

    def forget(self, event: str) -> None:
        """Note that all is well again."""
        self._said.pop(event, None)
