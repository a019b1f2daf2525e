"""Handles whose file was deleted at the service, as its webhooks tell."""

from __future__ import annotations

from collections.abc import Iterable

from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder

ROOT = webhooks_folder("deleted")


def mark_deleted(files: Files, handles: Iterable[str]) -> None:
    """A handle never comes back, and marking it twice changes nothing."""
    for handle in handles:
        files.create(f"{ROOT}/{handle}", b"")


def deleted_handles(files: Files) -> frozenset[str]:
    return frozenset(files.names(ROOT))
