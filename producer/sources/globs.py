"""Globs over slash-separated names.

`*` and `?` stop at a slash, `**` does not, `[a-z]` and `[!a-z]` are one character. A pattern without a slash
is compared with the last part of a name, one with a slash with all of it; `thumbs/` is everything below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ANY_FOLDERS = "(?:.*/)?"
_TOKEN = re.compile(
    r"(?P<folders>\*\*/)|(?P<all>\*\*)|(?P<star>\*)|(?P<one>\?)|\[(?P<set>!?\]?[^\]]*)\]|.", re.DOTALL
)
_PLAIN = {"folders": ANY_FOLDERS, "all": ".*", "star": "[^/]*", "one": "[^/]"}


def compile_globs(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """One expression for all of them, for `fullmatch`; None for none. Raise ValueError for a bad one."""
    expressions = [_expression(pattern) for pattern in patterns]
    return re.compile("|".join(expressions), re.DOTALL) if expressions else None


def _expression(pattern: str) -> str:
    anchored = "/" in pattern.rstrip("/")
    whole = pattern + "**" if pattern.endswith("/") else pattern
    text = ("" if anchored else ANY_FOLDERS) + _TOKEN.sub(_translate, whole.removeprefix("/"))
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no glob: {error.msg}") from None
    return f"(?:{text})"


def _translate(token: re.Match[str]) -> str:
    kind = token.lastgroup
    if kind is None:
        return re.escape(token[0])
    return _character_set(token[kind]) if kind == "set" else _PLAIN[kind]


def _character_set(text: str) -> str:
    """A set never matches a slash, and only `-` and a leading `!` are special in it."""
    negated = text.startswith("!")
    members = "".join(char if char == "-" else re.escape(char) for char in text.removeprefix("!"))
    return f"(?!/)[{'^' if negated else ''}{members}]"
