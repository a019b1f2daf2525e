"""One S3 object as HEAD shows it: is it the tagged one, may it be rewritten, what must be sent again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from tagmill.worker.models import S3Object
from tagmill.worker.sinks import encoding

#: The largest object that one CopyObject moves atomically.
MAX_COPY_BYTES = 5 * 1024**3
#: Readable at once, and named again in a copy they stay what they are; all others are left alone.
COPYABLE_CLASSES = frozenset(
    {"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"}
)
KMS = frozenset({"aws:kms", "aws:kms:dsse"})
COPYABLE_ENCRYPTIONS = KMS | {None, "AES256"}
#: HEAD fields that a REPLACE copy drops and takes under the same name. `ExpiresString` is the text of
#: Expires as it stands, parsable or not (`s3_metadata` sends it).
SAME_NAME = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ExpiresString",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "WebsiteRedirectLocation",
)


#: HEAD field -> the algorithm's name.
CHECKSUM_FIELDS = {
    f"Checksum{name}": name
    for name in (
        "CRC32",
        "CRC32C",
        "CRC64NVME",
        "SHA1",
        "SHA256",
        "SHA512",
        "MD5",
        "XXHASH64",
        "XXHASH3",
        "XXHASH128",
    )
}


def address(image: S3Object, stored: StoredObject | None = None) -> dict[str, Any]:
    """What names the image in a request: the version that was listed or looked at, else the object."""
    version_id = image.version_id if image.is_earlier else stored and stored.version_id
    return {"Bucket": image.bucket, "Key": image.key, **({"VersionId": version_id} if version_id else {})}


@dataclass(frozen=True)
class StoredObject:
    """A HeadObject answer (`ChecksumMode=ENABLED`) and what follows from it; nothing here sends a request."""

    head: Mapping[str, Any]

    @property
    def etag(self) -> str:
        """Without quotes."""
        return str(self.head["ETag"]).strip('"')

    @property
    def size(self) -> int:
        return int(self.head["ContentLength"])

    @property
    def version_id(self) -> str | None:
        return self.head.get("VersionId")

    @property
    def last_modified(self) -> str | None:
        stamp: datetime | None = self.head.get("LastModified")
        return stamp.isoformat() if stamp else None

    @property
    def encryption(self) -> str | None:
        return self.head.get("ServerSideEncryption")

    @cached_property
    def own(self) -> dict[str, str]:
        """Our metadata, as an earlier write left it. S3 lower-cases keys, some servers capitalise them."""
        return {key.lower(): value for key, value in self._metadata.items() if is_own(key)}

    @cached_property
    def foreign(self) -> dict[str, str]:
        """Everyone else's metadata."""
        return {key: value for key, value in self._metadata.items() if not is_own(key)}

    @property
    def _metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = self.head.get("Metadata", {})
        return metadata

    def holds(self, planned: S3Object) -> bool:
        """Whether this is the content that was tagged. Our own metadata copy of it still is."""
        if planned.etag is None:
            return planned.version_id is not None and planned.version_id == self.version_id
        return self.etag == planned.etag or self._is_own_copy_of(planned)

    def _is_own_copy_of(self, planned: S3Object) -> bool:
        """A copy changes the ETag of multipart and KMS objects; there our note of the original has to do."""
        noted = self.own.get(encoding.SOURCE_ETAG)
        return noted == planned.etag and self._has_noted_size and not self.keeps_etag(planned.etag)

    def keeps_etag(self, etag: str | None) -> bool:
        """Whether a copy of content with this ETag has it too: only where it is the MD5 of the content."""
        return etag is not None and "-" not in etag and self.encryption not in KMS

    def has_same_note(self, source_etag: str) -> bool:
        """Whether our note of the source still names this content, so that it needs no renewing."""
        return self.own.get(encoding.SOURCE_ETAG) == source_etag or self._surviving_note is not None

    @property
    def content_etag(self) -> str:
        """The ETag that this content had before any copy of ours changed it."""
        return self._surviving_note or self.etag

    @property
    def _surviving_note(self) -> str | None:
        """Our note of the source where a copy changed the ETag and nothing says that the content is new."""
        noted = self.own.get(encoding.SOURCE_ETAG)
        survives = noted is not None and self._has_noted_size and not self.keeps_etag(noted)
        return noted if survives else None

    @property
    def is_replica(self) -> bool:
        return bool(self.head.get("ReplicationStatus") == "REPLICA")

    @property
    def _has_noted_size(self) -> bool:
        return self.own.get(encoding.SOURCE_SIZE) == str(self.size)

    @property
    def obstacle(self) -> str | None:
        """Why a rewrite could lose something (the `reason` of a skipped write), or None."""
        return next((reason for reason, holds in self._obstacles().items() if holds), None)

    def _obstacles(self) -> dict[str, bool]:
        head = self.head
        return {
            "sse_c": "SSECustomerAlgorithm" in head,
            "storage_class": head.get("StorageClass", "STANDARD") not in COPYABLE_CLASSES,
            "archived": "ArchiveStatus" in head,
            "object_lock": "ObjectLockMode" in head or "ON" in _holds(head),
            "too_large": head["ContentLength"] > MAX_COPY_BYTES,
            "replica": self.is_replica,
            "missing_meta": head.get("MissingMeta", 0) > 0,
            "encryption": self.encryption not in COPYABLE_ENCRYPTIONS or self._hides_its_key,
            "not_ascii": not all(_sendable(text) for text in self._texts()),
        }

    @property
    def _hides_its_key(self) -> bool:
        """A copy without the key's name would take the account's default key."""
        return self.encryption in KMS and "SSEKMSKeyId" not in self.head

    def _texts(self) -> list[str]:
        """Everything that goes back as a header."""
        fields = [str(self.head[name]) for name in SAME_NAME if name in self.head]
        return [*fields, *self._metadata, *self._metadata.values()]

    def resend(self) -> dict[str, Any]:
        """CopyObject arguments that keep everything REPLACE would reset, but for metadata and ACL.

        Tags and annotations are the copy's own business: their directives default to COPY, atomically.
        """
        kept = {name: self.head[name] for name in SAME_NAME if name in self.head}
        return kept | self._bucket_key() | self._checksum()

    def _bucket_key(self) -> dict[str, Any]:
        """Named even when false, because the bucket's default may be true. DSSE-KMS knows no bucket keys."""
        if self.encryption != "aws:kms":
            return {}
        return {"BucketKeyEnabled": self.head.get("BucketKeyEnabled", False)}

    def _checksum(self) -> dict[str, Any]:
        """Name the algorithm, but not for a checksum of part checksums: a new one would be computed."""
        if self.head.get("ChecksumType") == "COMPOSITE":
            return {}
        algorithm = next((name for name in self.head if name in CHECKSUM_FIELDS), None)
        if algorithm is None or "-" in str(self.head[algorithm]):
            return {}
        return {"ChecksumAlgorithm": CHECKSUM_FIELDS[algorithm]}


def is_own(key: str) -> bool:
    return key.lower() in encoding.OWN_KEYS


def _holds(head: Mapping[str, Any]) -> tuple[Any, Any]:
    return head.get("ObjectLockLegalHoldStatus"), head.get("ObjectLockEventHold")


def _sendable(text: str) -> bool:
    """Printable ASCII. Other bytes come from servers that do not encode them, and would not return whole."""
    return text.isascii() and text.isprintable()
