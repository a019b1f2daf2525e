"""Addresses of images, as they may be kept and compared."""

from __future__ import annotations

VERSION = "versionId="


def bare(address: str) -> str:
    """Without a query, which may be signed anew each time, but for the version that it names."""
    path, _, query = address.partition("?")
    version = next((part for part in query.split("&") if part.startswith(VERSION)), None)
    return path if version is None else f"{path}?{version}"
