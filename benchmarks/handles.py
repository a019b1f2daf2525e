"""Names that the sandbox answers in load mode."""

from __future__ import annotations

from collections.abc import Iterator


def made_up_handles(count: int) -> Iterator[str]:
    return (f"benchmark{number:011d}" for number in range(count))
