"""Every version of the objects below an S3 prefix, as S3 lists them: by key, of each key the newest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.filtering import Sieve, Skip, listed
from tagmill.producer.sources.s3_errors import SOURCE_CODE, Doing, translated
from tagmill.producer.sources.s3_listing import PAGE_SIZE, examine
from tagmill.worker.errors import ConfigError, RunError
from tagmill.worker.models import ImageRef

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIST_VERSIONS = Doing("list the versions of", "s3:ListBucketVersions")
ORDER = "TagmillOrder"  #: beside the two lists that botocore makes of a page
_ENTRY = re.compile(rb"<(Version|DeleteMarker)[\s>]")

Entry = Mapping[str, Any]
Page = Sequence[tuple[bytes, Entry]]  #: which of `_ENTRY` it is, and what it says


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
        return f"s3://{self._bucket}/{self._prefix} (all versions)"

    def list(self, after: Cursor) -> Iterator[Listed]:
        """Also raise `RunError` when S3 fails on the way; the last item's cursor continues from there."""
        last = after
        for page in self._pages(after):
            self._check_order(last, page)
            for kind, entry in page:
                cursor = _cursor(entry)
                if cursor == last:
                    continue  # of a server that goes on with its marker
                last = cursor
                yield listed(Skip.DELETED if kind == b"DeleteMarker" else self._examine(entry), cursor)

    def _pages(self, after: Cursor) -> Iterator[Page]:
        client, more, started = self._client(), True, False
        client.meta.events.register("before-parse.s3.ListObjectVersions", _note_order, "tagmill-order")
        while more:
            marker = {"KeyMarker": after["after"], "VersionIdMarker": after["version"]} if after else {}
            with translated(self._bucket, started=started, doing=LIST_VERSIONS):
                page, more = self._page(client, marker)
                end = _cursor(page[-1][1]) if page else after
                if more and end == after:
                    raise ResponseParserError("not a page of a listing")
                if after and not page:
                    self._refuse_a_lost_place(client, after["after"])
            yield page
            after, started = end, True

    def _page(self, client: S3Client, marker: Mapping[str, Any]) -> tuple[Page, bool]:
        """Return it, and whether there is more."""
        place: Any = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": self._page_size, **marker}
        answer = client.list_object_versions(**place)
        return _in_order(answer), answer.get("IsTruncated", True)

    def _refuse_a_lost_place(self, client: S3Client, key: str) -> None:
        """Some servers list nothing behind a version that was deleted meanwhile."""
        rest, _ = self._page(client, {"KeyMarker": key})
        if any(entry["Key"] > key for _, entry in rest):
            raise RunError(
                f"{self.describe()} cannot be gone on with: the version of {key!r} behind which it would be "
                "was deleted, and this server lists nothing there; start another run",
                code=SOURCE_CODE,
            )

    def _check_order(self, last: Cursor, page: Page) -> None:
        """In a page, because from one to the next another version may have become the latest."""
        entries = [entry for _, entry in page]
        keys = [last.get("after", ""), *(entry["Key"] for entry in entries)]
        in_order = all(one <= other for one, other in pairwise(keys))
        if not in_order or any(
            two["IsLatest"] and one["Key"] == two["Key"] for one, two in pairwise(entries)
        ):
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


def _in_order(answer: Mapping[str, Any]) -> Page:
    """Versions and delete markers as they came."""
    of_kind = {
        b"Version": iter(answer.get("Versions", ())),
        b"DeleteMarker": iter(answer.get("DeleteMarkers", ())),
    }
    return [(kind, next(of_kind[kind])) for kind in answer[ORDER]]
