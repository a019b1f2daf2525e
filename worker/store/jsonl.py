"""Gzipped JSON Lines, byte for byte the same for the same records."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

_LEVEL = 6


def pack(records: Iterable[Any]) -> bytes:
    return pack_lines(orjson.dumps(record) for record in records)


def pack_lines(lines: Iterable[bytes]) -> bytes:
    """No time stamp in the header: equal lines give equal files."""
    return gzip.compress(b"".join(line + b"\n" for line in lines), _LEVEL, mtime=0)


def unpack_lines(data: bytes) -> list[bytes]:
    return gzip.decompress(data).splitlines()


def unpack(data: bytes) -> Iterator[Any]:
    return map(orjson.loads, unpack_lines(data))
