"""A run store below `s3://bucket/prefix`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError

from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.store.base import PROBE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_CONFLICT_TRIES = 10


class Bucket:
    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.location = f"s3://{bucket}/{self._prefix}".rstrip("/")

    def create(self, name: str, data: bytes) -> bool:
        """Retry 409, which S3 answers while another conditional write to the same key is under way.

        A request that was repeated for want of an answer may have met its own first try.
        """
        for _ in range(_CONFLICT_TRIES):
            try:
                with self._translated(name, tolerated=_EXISTS | _CONFLICT):
                    self._client.put_object(
                        Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*"
                    )
                    return True
            except ClientError as error:
                if _code(error) in _EXISTS:
                    return _repeated(error) and self.read(name) == data
        raise RunStoreUnavailableError(f"run store {self.location}: {name}: conflicting writes do not end")

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        with tempfile.TemporaryFile() as spool, self._translated(name):
            spool.writelines(data)
            spool.seek(0)
            self._client.upload_fileobj(spool, self._bucket, self._prefix + name)

    def read(self, name: str) -> bytes:
        try:
            with self._translated(name, tolerated=_MISSING):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                return answer["Body"].read()
        except ClientError:
            raise FileNotFoundError(f"{self.location}/{name}") from None

    def open(self, name: str) -> BinaryIO:
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            with self._translated(name, tolerated=_MISSING):
                self._client.download_fileobj(self._bucket, self._prefix + name, spool)
        except ClientError:
            spool.close()
            raise FileNotFoundError(f"{self.location}/{name}") from None
        spool.seek(0)
        return spool

    def exists(self, name: str) -> bool:
        try:
            with self._translated(name, tolerated=_MISSING):
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError:
            return False
        return True

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        folder = self._folder(prefix)
        for page in self._pages(folder, StartAfter=folder + after):
            yield from (item["Key"].removeprefix(folder) for item in page.get("Contents", ()))

    def folders(self, prefix: str) -> Iterator[str]:
        folder = self._folder(prefix)
        for page in self._pages(folder):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].removeprefix(folder).rstrip("/")

    def remove(self, name: str) -> None:
        with self._translated(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def remove_below(self, prefix: str) -> None:
        for page in self._below(self._folder(prefix)):
            if keys := [{"Key": item["Key"]} for item in page]:
                self._delete(prefix, keys)

    def leftovers(self) -> Iterator[tuple[str, datetime]]:
        for page in self._below(self._prefix + PROBE):
            yield from ((item["Key"].removeprefix(self._prefix), item["LastModified"]) for item in page)

    def _below(self, start: str) -> Iterator[list[Any]]:
        """Everything whose key starts so, page by page."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        with self._translated(start):
            yield from (list(page.get("Contents", ())) for page in pages)

    def _delete(self, prefix: str, keys: list[Any]) -> None:
        """A deletion of many objects answers 200, and lists what was not deleted."""
        with self._translated(prefix):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys})
        for error in answer.get("Errors", ()):
            raise RunStoreUnavailableError(
                f"run store {self.location}: {prefix}: S3 says {error.get('Code')}"
            )

    def _folder(self, prefix: str) -> str:
        return f"{self._prefix}{prefix.rstrip('/')}/" if prefix else self._prefix

    def _pages(self, folder: str, **options: Any) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=folder, Delimiter="/", **options
        )
        with self._translated(folder):
            yield from pages

    @contextlib.contextmanager
    def _translated(self, name: str, tolerated: Collection[str] = ()) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if _code(error) in tolerated:
                raise
            raise RunStoreUnavailableError(
                f"run store {self.location}: {name}: S3 says {_code(error)}"
            ) from None
        except (BotoCoreError, RetriesExceededError, OSError) as error:  # OSError: no room for the spool
            raise RunStoreUnavailableError(
                f"run store {self.location}: {name}: {type(error).__name__}"
            ) from None


def _repeated(error: ClientError) -> bool:
    return bool(error.response["ResponseMetadata"].get("RetryAttempts", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
