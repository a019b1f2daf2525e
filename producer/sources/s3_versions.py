"""Every version of the objects below an S3 prefix, as S3 lists them: by key, of each key the newest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.filtering import Sieve, Skip, listed
from tagmill.producer.sources.s3_errors import Doing, translated
from tagmill.producer.sources.s3_listing import PAGE_SIZE, examine
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import ImageRef

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIST_VERSIONS = Doing("list the versions of", "s3:ListBucketVersions")
ORDER = "TagmillOrder"  #: beside the two lists that botocore makes of a page
_ENTRY = re.compile(rb"<(Version|DeleteMarker)[\s>]")

Entry = Mapping[str, Any]


class S3Versions:
    """Memory is one page. A cursor is the key and version of an item; S3 goes on behind them.

    So does Amazon S3 when that version was deleted meanwhile; versions that are new by then are not listed.
    """

    def __init__(
        self,
        client: Callable[[], S3Client],
        bucket: str,
        prefix: str,
        filters: Filters,
        *,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._sieve, self._page_size = Sieve(filters), page_size

    def describe(self) -> str:
        return f"all versions in s3://{self._bucket}/{self._prefix}"

    def list(self, after: Cursor) -> Iterator[Listed]:
        """Also raise `RunError` when S3 fails on the way; the last item's cursor continues from there."""
        last = after
        for kind, entry in self._entries(after):
            cursor = _cursor(entry)
            if cursor == last:
                continue  # of a server that goes on with its marker
            self._check_order(last, entry)
            last = cursor
            yield listed(Skip.DELETED if kind == b"DeleteMarker" else self._examine(entry), cursor)

    def _entries(self, after: Cursor) -> Iterator[tuple[bytes, Entry]]:
        client, more, started = self._client(), True, False
        client.meta.events.register("before-parse.s3.ListObjectVersions", _note_order, "tagmill-order")
        while more:
            marker: Any = {"KeyMarker": after["after"], "VersionIdMarker": after["version"]} if after else {}
            with translated(self._bucket, started=started, doing=LIST_VERSIONS):
                page: Any = client.list_object_versions(
                    Bucket=self._bucket, Prefix=self._prefix, MaxKeys=self._page_size, **marker
                )
                entries, more, started = _in_order(page), page.get("IsTruncated", True), True
                end = _cursor(entries[-1][1]) if entries else after
                if more and end == after:
                    raise ResponseParserError("not a page of a listing")
            yield from entries
            after = end

    def _check_order(self, last: Cursor, entry: Entry) -> None:
        begins_anew = entry["IsLatest"] and last.get("after") == entry["Key"]
        if begins_anew or last.get("after", "") > entry["Key"]:
            raise ConfigError(
                f"{self.describe()} are not listed by key, the newest first, delete markers among them:"
                " no run could resume, so this server's versions are not supported"
            )

    def _examine(self, entry: Entry) -> ImageRef | Skip:
        version = {"version_id": entry["VersionId"], "is_latest": entry["IsLatest"]}
        return examine(entry, self._sieve, self._bucket, self._prefix, **version)


def _cursor(entry: Entry) -> Cursor:
    return {"after": entry["Key"], "version": entry["VersionId"]}


def _note_order(
    response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    customized_response_dict[ORDER] = _ENTRY.findall(response_dict["body"])


def _in_order(page: Mapping[str, Any]) -> list[tuple[bytes, Entry]]:
    """Versions and delete markers as they came."""
    of_kind = {
        b"Version": iter(page.get("Versions", ())),
        b"DeleteMarker": iter(page.get("DeleteMarkers", ())),
    }
    return [(kind, next(of_kind[kind])) for kind in page[ORDER]]
