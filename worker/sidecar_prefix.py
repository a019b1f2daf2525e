"""Where sidecars of S3 images go: beside them, or under a prefix."""

from __future__ import annotations

from dataclasses import dataclass

from tagmill.worker.errors import ConfigError
from tagmill.worker.models import S3Object

SUFFIX = ".tags.json"


@dataclass(frozen=True, slots=True)
class SidecarPrefix:
    bucket: str | None = None  #: None: each image's own
    folder: str = ""  #: ends in a slash unless empty

    @classmethod
    def parse(cls, text: str | None) -> SidecarPrefix:
        """Read `prefix/` or `s3://bucket/prefix`; nothing says: beside the images. Raise `ConfigError`."""
        bucket, folder = None, text or ""
        if folder.startswith("s3://"):
            bucket, _, folder = folder.removeprefix("s3://").partition("/")
        if bucket == "":
            raise ConfigError(f"TAGMILL_SIDECAR_PREFIX {text!r}: write prefix/ or s3://bucket/prefix")
        folder = folder.strip("/")
        return cls(bucket, f"{folder}/" if folder else "")

    def place(self, image: S3Object) -> dict[str, str]:
        """Name an image's sidecar in a request; in another bucket, images of two buckets stay apart."""
        apart = f"{image.bucket}/" if self.bucket else ""
        key = f"{self.folder}{apart}{image.key}{SUFFIX}"
        return {"Bucket": self.bucket or image.bucket, "Key": key}
