"""Addresses of images, as they may be kept and compared: a query may be signed, and anew each time."""

from __future__ import annotations

VERSION = "versionId="


def bare(address: str) -> str:
    """Without a query."""
    return address.partition("?")[0]


def names(address: str) -> tuple[str, ...]:
    """All that it may be known by: without a query, and with the version that the query names."""
    versions = (part for part in address.partition("?")[2].split("&") if part.startswith(VERSION))
    return bare(address), *(f"{bare(address)}?{version}" for version in versions)
