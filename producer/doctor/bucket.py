"""A bucket: each operation that a run needs there, on a scratch object that is gone afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tagmill.producer.sources.s3_errors import Doing, translated
from tagmill.producer.sources.s3_versions import LIST_VERSIONS
from tagmill.worker.check import Check

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = b"Tagmill's doctor tries its permissions here. It may be deleted.\n"
REWRITES = frozenset({"metadata"})  #: write-backs that copy the object


class BucketCheckup:
    """Of one bucket, below one prefix."""

    def __init__(self, client: S3Client, bucket: str, prefix: str, *, all_versions: bool = False) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._all_versions = all_versions
        self._at: Any = {"Bucket": bucket, "Key": f"{prefix}.tagmill-probe-{secrets.token_hex(8)}"}
        self._versions: list[str] = []
        self.first_key: str | None = None  #: of the listing

    def run(self, write_back: Collection[str]) -> list[Check]:
        """Reading is needed always, writing for a write-back."""
        checks = [self._check("list", "s3:ListBucket", self._list)]
        if self._all_versions:
            checks.append(self._check("list versions", LIST_VERSIONS.permission, self._list_versions))
        if self.first_key is not None:
            checks.append(self._check("read", "s3:GetObject", self._read))
        if write_back:
            checks += self._writing(write_back)
        return checks

    def _writing(self, write_back: Collection[str]) -> Iterator[Check]:
        put = self._check("write", "s3:PutObject", self._put)
        yield put
        if put.passed:
            if REWRITES & set(write_back):
                yield self._check("copy", "s3:PutObject and s3:GetObject", self._copy)
            if "tags" in write_back:
                yield self._check("tag", "s3:PutObjectTagging and s3:GetObjectTagging", self._tag)
            yield self._check("delete", "s3:DeleteObject and s3:DeleteObjectVersion", self._delete)

    def _check(self, verb: str, permission: str, operation: Callable[[], str]) -> Check:
        def look() -> str:
            with self._doing(verb, permission):
                return operation()

        return Check.of(f"s3 {verb}", look)

    @contextmanager
    def _doing(self, verb: str, permission: str) -> Iterator[None]:
        with translated(self._bucket, started=False, doing=Doing(f"{verb} in", permission)):
            yield

    def _list(self) -> str:
        page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        self.first_key = next((item["Key"] for item in page.get("Contents", ())), None)
        return f"s3://{self._bucket}/{self._prefix}" + ("" if self.first_key else " is empty")

    def _list_versions(self) -> str:
        page = self._client.list_object_versions(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        return "versions can be listed" + ("" if page.get("Versions") else ", and there is none")

    def _read(self) -> str:
        assert self.first_key is not None  # noqa: S101 - `run` saw it
        answer = self._client.get_object(Bucket=self._bucket, Key=self.first_key, Range="bytes=0-0")
        answer["Body"].close()
        return "an object can be read"

    def _put(self) -> str:
        self._note(self._client.put_object(**self._at, Body=BODY))
        return "an object can be written"

    def _copy(self) -> str:
        replaced: Any = {"MetadataDirective": "REPLACE", "Metadata": {"tagmill-probe": "copied"}}
        self._note(self._client.copy_object(**self._at, CopySource=self._at, **replaced))
        return "an object can be copied onto itself, with other metadata"

    def _tag(self) -> str:
        tags: Any = {"TagSet": [{"Key": "tagmill-probe", "Value": "tagged"}]}
        self._client.put_object_tagging(**self._at, Tagging=tags)
        self._client.get_object_tagging(**self._at)
        return "an object can be tagged"

    def _delete(self) -> str:
        versions: list[Any] = [{"VersionId": version} for version in self._versions]
        for version in versions or [{}]:
            self._client.delete_object(**self._at, **version)
        return "the scratch object is deleted"

    def _note(self, answer: Mapping[str, Any]) -> None:
        """Remember a version of the scratch object: each has to be deleted."""
        if version := answer.get("VersionId"):
            self._versions.append(version)
