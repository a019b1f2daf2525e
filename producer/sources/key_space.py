"""Places between two keys: where a listing can be split."""

from __future__ import annotations

ASCII, UNICODE = 0x80, 0x110000
SURROGATES = range(0xD800, 0xE000)
DEPTHS = (4, 16)  #: characters behind what both ends have in common, in which a place is looked for
MOST_BYTES = 1024  #: of a key


def place(low: str, high: str | None, prefix: str, part: int, of: int) -> str | None:
    """Return a text strictly between them, about `part / of` of the way; None where none is looked for.

    `high` None: the end of all keys with the prefix.
    """
    low = max(low, prefix)
    shared = len(prefix) if high is None else _shared(low, high)
    base = ASCII if low.isascii() and (high is None or high.isascii()) else UNICODE
    for depth in DEPTHS:
        first = _number(low[shared:], depth, base)
        last = base**depth if high is None else _number(high[shared:], depth, base)
        found = low[:shared] + _text(first + (last - first) * part // of, depth, base)
        if low < found and (high is None or found < high) and len(found.encode()) <= MOST_BYTES:
            return found
    return None


def to_come(start: str, at: str, high: str, prefix: str) -> float:
    """Return how much of the way from `start` to `high` lies behind `at`, in what lies before it."""
    start = max(start, prefix)
    shared = _shared(start, high)
    base = ASCII if start.isascii() and at.isascii() and high.isascii() else UNICODE
    first, here, last = (_number(text[shared:], DEPTHS[-1], base) for text in (start, at, high))
    return (last - here) / max(here - first, 1)


def _shared(one: str, other: str) -> int:
    """Count the characters that both begin with."""
    ends = (place for place, (char, its) in enumerate(zip(one, other, strict=False)) if char != its)
    return next(ends, min(len(one), len(other)))


def _number(text: str, depth: int, base: int) -> int:
    """The first characters as digits."""
    number = 0
    for char in text[:depth].ljust(depth, "\0"):
        number = number * base + ord(char)
    return number


def _text(number: int, depth: int, base: int) -> str:
    """Only of characters that a request can carry: what others are near to stands for them."""
    digits = []
    for _ in range(depth):
        number, digit = divmod(number, base)
        digits.append(digit)
    while digits and digits[0] == 0:
        del digits[0]
    return "".join(map(_carried, reversed(digits)))


def _carried(digit: int) -> str:
    if digit in SURROGATES:
        return chr(SURROGATES.start - 1)
    return chr(max(digit, ord(" ")) - (digit == ASCII - 1))
