"""A report of S3 Inventory: the objects of a bucket, in the order of the report's files."""

from __future__ import annotations

import csv
import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.filtering import Sieve, Skip
from tagmill.producer.sources.inventory_manifest import (
    READ,
    InventoryFile,
    InventoryManifest,
    open_object,
    split_uri,
)
from tagmill.producer.sources.inventory_rows import Read, Row, reader
from tagmill.producer.sources.quantities import rfc3339
from tagmill.producer.sources.s3_errors import SOURCE_CODE, translated
from tagmill.producer.sources.s3_listing import ARCHIVES, check_key
from tagmill.worker.errors import ConfigError, RunError, TaggingError
from tagmill.worker.models import ImageRef, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COPY_BYTES = 1 << 20
NO_VERSION = "null"  #: how requests name the version of an object that was put without one
#: What reading a file raises that is not what its manifest promises.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, csv.Error, EOFError, zlib.error)


class S3Inventory:
    """Memory is a block of rows; a file at a time is copied to `TMPDIR` and checked before it is read."""

    def __init__(
        self,
        client: Callable[[], S3Client],
        uri: str,
        open_manifest: Callable[[], BinaryIO],
        filters: Filters,
        *,
        all_versions: bool = False,
    ) -> None:
        """`open_manifest`: the manifest's copy in the run."""
        self._all_versions = all_versions
        self._client, self._uri, self._open_manifest = client, uri, open_manifest
        self._filters, self._sieve = filters, Sieve(filters)

    def describe(self) -> str:
        return self._uri

    def list(self, after: Cursor) -> Iterator[Listed]:
        """Raise `ConfigError` or, on the way, `RunError` for a file that is not what its checksum says."""
        with closing(self._open_manifest()) as stream:
            manifest = InventoryManifest.parse(stream.read(), self._uri)
        read, client = reader(manifest), self._client()
        first, done = after.get("file", 0), after.get("row", 0)
        started = bool(after)
        for number, file in enumerate(manifest.files[first:], first):
            for place, row in enumerate(self._rows(client, file, read, done, started=started), done + 1):
                started = True
                yield self._listed(manifest.bucket, row, {"file": number, "row": place})
            done = 0

    def _rows(
        self, client: S3Client, file: InventoryFile, read: Read, done: int, *, started: bool
    ) -> Iterator[Row]:
        """Yield those behind the first `done`."""
        with _failing(file.key, started=started), self._checked(client, file, started=started) as copy:
            yield from islice(read(copy), done, None)

    @contextmanager
    def _checked(self, client: S3Client, file: InventoryFile, *, started: bool) -> Iterator[BinaryIO]:
        bucket, _ = split_uri(self._uri)
        digest = hashlib.md5(usedforsecurity=False)
        with tempfile.TemporaryFile() as copy:
            with translated(bucket, started=started, doing=READ):
                if (body := open_object(client, bucket, file.key)) is None:
                    raise _error(f"{file.key}, named by the inventory's manifest, is gone", started=started)
                for piece in body.iter_chunks(COPY_BYTES):
                    digest.update(piece)
                    copy.write(piece)
            if digest.hexdigest() != file.md5.lower():
                raise _error(f"{file.key} is not what the inventory's manifest says (MD5)", started=started)
            copy.seek(0)
            yield copy

    def _listed(self, bucket: str, row: Row, cursor: Cursor) -> Listed:
        source = S3Object(
            bucket,
            row.key,
            etag=row.etag,
            size=row.size,
            last_modified=rfc3339(row.modified) if row.modified else None,
            version_id=(row.version_id or NO_VERSION) if self._all_versions else None,
            is_latest=row.is_latest if self._all_versions else None,
        )
        skip = self._check(bucket, row)
        if skip is None:
            return Listed(ImageRef(source), cursor)
        there = row.is_latest and not row.is_delete_marker
        return Listed(None, cursor, skip.value, passed_over=source.id if there else None)

    def _check(self, bucket: str, row: Row) -> Skip | None:
        if row.bucket != bucket:
            return Skip.ELSEWHERE
        if row.is_delete_marker:
            return Skip.DELETED
        if not row.is_latest and not self._all_versions:
            return Skip.NOT_LATEST
        if skip := check_key(self._sieve, "", row.key):
            return skip
        return Skip.ARCHIVED if row.storage_class in ARCHIVES else self._check_facts(row)

    def _check_facts(self, row: Row) -> Skip | None:
        """Raise ValueError where a filter asks for what the inventory does not have."""
        filters = self._filters
        if row.size is None and (filters.min_size is not None or filters.max_size is not None):
            raise ConfigError(f"{self._uri} has no column Size: no --min-size or --max-size")
        if row.modified is None and filters.since is not None:
            raise ConfigError(f"{self._uri} has no column LastModifiedDate: no --since")
        size = 1 if row.size is None else row.size
        return self._sieve.check_facts(size, row.modified.timestamp() if row.modified else 0.0)


@contextmanager
def _failing(key: str, *, started: bool) -> Iterator[None]:
    try:
        yield
    except TaggingError:
        raise
    except OSError as error:
        raise _error(
            f"cannot read {key} of the inventory: {error.strerror or error}", started=started
        ) from None
    except _MALFORMED:
        raise _error(
            f"{key} is no file of the inventory that its manifest describes", started=started
        ) from None


def _error(text: str, *, started: bool) -> TaggingError:
    return RunError(text, code=SOURCE_CODE) if started else ConfigError(text)
