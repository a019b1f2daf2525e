"""A bucket that somebody names: `make test-s3 TAGMILL_TEST_S3_URI=s3://bucket/prefix`.

Found when tests are collected, because later nothing of the environment is left.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tagmill.producer.probe import probe
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.s3 import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SINKS = ("metadata", "tags", "annotation")


@dataclass(frozen=True)
class RealBucket:
    client: S3Client
    bucket: str
    prefix: str  #: ours alone
    found: Capabilities  #: what the probe of a run says of it

    def clean_up(self) -> None:
        """Remove every version of everything below the prefix."""
        for key, version_id in self._versions():
            version: Any = {"VersionId": version_id} if version_id else {}
            self.client.delete_object(Bucket=self.bucket, Key=key, **version)

    def _versions(self) -> list[tuple[str, str | None]]:
        try:
            rows = [row for page in self._pages("list_object_versions") for row in _rows(page)]
            return [(row["Key"], row["VersionId"]) for row in rows]
        except ClientError:
            pages = self._pages("list_objects_v2")
            return [(row["Key"], None) for page in pages for row in page.get("Contents", ())]

    def _pages(self, operation: Any) -> Iterator[Any]:
        return iter(self.client.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=self.prefix))


def _rows(page: Any) -> Iterator[Any]:
    yield from page.get("Versions", ())
    yield from page.get("DeleteMarkers", ())


@functools.cache
def named_bucket() -> RealBucket | None:
    """None: nobody named one."""
    uri = os.environ.get("TAGMILL_TEST_S3_URI")
    if not uri:
        return None
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = s3_client(os.environ.get("TAGMILL_S3_ENDPOINT_URL") or None, connections=8, retries=0)
    ours = f"{prefix.strip('/')}/tagmill-test-{secrets.token_hex(4)}/".lstrip("/")
    return RealBucket(client, bucket, ours, probe(client, bucket, ours, SINKS))
