"""From the setting `run_store` to a place that passed the probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tagmill.worker.errors import ConfigError, RunStoreUnavailableError
from tagmill.worker.store.base import Files, probe
from tagmill.worker.store.bucket import Bucket
from tagmill.worker.store.folder import Folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def open_files(run_store: str, s3_client: Callable[[], S3Client]) -> Files:
    """Raise `ConfigError` for what is neither a folder nor an S3 prefix."""
    if not run_store.startswith("s3://"):
        return Folder(run_store)
    bucket, _, prefix = run_store.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigError("TAGMILL_RUN_STORE: name a bucket, as in s3://bucket/prefix")
    return Bucket(s3_client(), bucket, prefix)


def open_probed(run_store: str, s3_client: Callable[[], S3Client]) -> Files:
    """Open a store that will be written; refuse one without create-if-absent."""
    files = open_files(run_store, s3_client)
    try:
        probe(files)
    except RunStoreUnavailableError as error:
        raise ConfigError(f"TAGMILL_RUN_STORE cannot be used: {error}") from None
    return files
