"""The run store as the settings name it, for commands that look into it or change it."""

from __future__ import annotations

from tagmill.config.settings import Settings
from tagmill.worker.s3 import store_client
from tagmill.worker.store.base import Files
from tagmill.worker.store.opening import open_files


def open_store(settings: Settings) -> Files:
    """Raise `ConfigError` or `RunStoreUnavailableError`."""
    return open_files(settings.run_store, lambda: store_client(settings.s3_endpoint_url))
