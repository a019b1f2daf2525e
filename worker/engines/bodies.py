"""Bodies of bounded size, whatever a server sends: 200 KB of gzip can hold 200 MB."""

from __future__ import annotations

import zlib
from typing import cast

import httpx

_GZIP_OR_ZLIB = 47  # zlib's wbits: 32 to tell the two apart, 15 for the largest window


async def read_body(response: httpx.Response, limit_bytes: int) -> bytes:
    """The decoded body, cut after `limit_bytes` + 1; one that cannot be decoded stays as it came."""
    raw = bytearray()
    try:
        async for part in cast("httpx.AsyncByteStream", response.stream):
            raw += part
            if len(raw) > limit_bytes:
                break
    finally:
        await response.aclose()
    return _decoded(bytes(raw), response.headers.get("content-encoding", ""), limit_bytes)[: limit_bytes + 1]


def _decoded(raw: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return raw
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(raw, limit_bytes + 1)
    except zlib.error:
        return raw
