"""An S3 prefix, in the byte order of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.filtering import Sieve, Skip, listed
from tagmill.producer.sources.quantities import rfc3339
from tagmill.producer.sources.s3_errors import translated
from tagmill.producer.sources.split_listing import Page, SplitListing
from tagmill.worker.capabilities import SCRATCH_NAME
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import ImageRef, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestPaginateTypeDef,
        ObjectTypeDef,
    )

PAGE_SIZE = 1000  #: the most that S3 gives at once
ARCHIVES = frozenset(
    {"GLACIER", "DEEP_ARCHIVE"}
)  #: a read needs a restore first (S3 User Guide, storage classes)


class S3Listing:
    """Memory is one page; a cursor is a key, so it never expires."""

    def __init__(
        self,
        client: Callable[[], S3Client],
        bucket: str,
        prefix: str,
        filters: Filters,
        *,
        page_size: int = PAGE_SIZE,
        list_workers: int = 1,
    ) -> None:
        """`list_workers`: threads that list at once; the client needs a connection for each."""
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._sieve = Sieve(filters)
        self._page_size = page_size
        self._list_workers = list_workers

    def describe(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def list(self, after: Cursor) -> Iterator[Listed]:
        """Also raise `RunError` when S3 fails on the way; the last item's cursor continues from there."""
        last = str(after.get("after", ""))
        for page in self._pages(last) if self._list_workers == 1 else self._split_pages(last):
            for item in page:
                key = item["Key"]
                if key <= last:
                    raise ConfigError(
                        f"{self.describe()} is not listed in the byte order of its keys: no run could resume,"
                        " so directory buckets and the like are not supported"
                    )
                last = key
                yield listed(examine(item, self._sieve, self._bucket, self._prefix), {"after": key})

    def _split_pages(self, after: str) -> Iterator[Sequence[ObjectTypeDef]]:
        client, page_size = self._client(), self._page_size

        def fetch(behind: str, *, started: bool = True, probe: bool = False) -> Page:
            with translated(self._bucket, started=started):
                page = client.list_objects_v2(
                    Bucket=self._bucket,
                    Prefix=self._prefix,
                    MaxKeys=1 if probe else page_size,
                    StartAfter=behind,
                )
                items, is_last = page.get("Contents", ()), not page.get("IsTruncated", True)
                if not is_last and not items:
                    raise ResponseParserError("not a page of a listing")
            return Page(items, is_last)  # type: ignore[arg-type]  # dictionaries of a known form are some, too

        for page in SplitListing(fetch, self._prefix, self._list_workers).pages(after):
            for item in page:
                item["LastModified"] = datetime.fromisoformat(item["LastModified"])
            yield page  # type: ignore[misc]  # as above

    def _pages(self, after: str) -> Iterator[Sequence[ObjectTypeDef]]:
        request: ListObjectsV2RequestPaginateTypeDef = {
            "Bucket": self._bucket,
            "Prefix": self._prefix,
            "PaginationConfig": {"PageSize": self._page_size},
        }
        if after:
            request["StartAfter"] = after
        with translated(self._bucket, started=False):
            pages = iter(self._client().get_paginator("list_objects_v2").paginate(**request))
            page = _next_whole(pages)
        while page is not None:
            yield page.get("Contents", ())
            with translated(self._bucket, started=True):
                page = _next_whole(pages)


def examine(
    item: Mapping[str, Any],
    sieve: Sieve,
    bucket: str,
    prefix: str,
    *,
    version_id: str | None = None,
    is_latest: bool | None = None,
) -> ImageRef | Skip:
    """Of an object or a version in a listing: the image, or why it is passed over."""
    key, size, modified = item["Key"], item.get("Size", 0), item["LastModified"]
    skip = check_key(sieve, prefix, key)
    if skip is None and item.get("StorageClass") in ARCHIVES:
        skip = Skip.ARCHIVED
    skip = skip or sieve.check_facts(size, modified.timestamp())
    return skip or ImageRef(
        S3Object(
            bucket,
            key,
            etag=item.get("ETag", "").strip('"') or None,
            size=size,
            last_modified=rfc3339(modified),
            version_id=version_id,
            is_latest=is_latest,
        )
    )


def check_key(sieve: Sieve, prefix: str, key: str) -> Skip | None:
    """Say why the key of an object below that prefix is passed over."""
    if key.endswith("/"):
        return Skip.FOLDER
    if SCRATCH_NAME.search(key):
        return Skip.PROBE
    return sieve.check_name(key.removeprefix(prefix).removeprefix("/"))


def _next_whole(pages: Iterator[ListObjectsV2OutputTypeDef]) -> ListObjectsV2OutputTypeDef | None:
    """An answer that says neither "this is all" nor where to go on would end the listing unseen."""
    page = next(pages, None)
    if page is not None and page.get("IsTruncated", True) and not page.get("NextContinuationToken"):
        raise ResponseParserError("not a page of a listing")
    return page
