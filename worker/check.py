"""One thing that `tagmill doctor` looks at, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tagmill.worker.errors import TaggingError
from tagmill.worker.models import Json


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    passed: bool
    found: str  #: one line; of a failed check with the mend

    def to_json(self) -> Json:
        return {"name": self.name, "passed": self.passed, "found": self.found}

    @classmethod
    def of(cls, name: str, look: Callable[[], str]) -> Check:
        """Look; a failure's message is what was found."""
        try:
            return cls(name, passed=True, found=look())
        except TaggingError as error:
            return cls(name, passed=False, found=str(error))
