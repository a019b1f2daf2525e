"""Two ordered streams side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

L = TypeVar("L")
R = TypeVar("R")


def joined(
    left: Iterable[tuple[bytes, L]], right: Iterable[tuple[bytes, R]]
) -> Iterator[tuple[bytes, L | None, R | None]]:
    """Yield each key of either with what both have there, or None. Keys ascend in both."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - the loop's condition
            yield one[0], one[1], None
            one = next(lefts, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(rights, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(lefts, None), next(rights, None)
