"""One image and the sink that writes on it or beside it, for what every sink promises."""

from __future__ import annotations

import itertools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import unquote

from botocore.exceptions import ClientError
from fakes.sink import FakeSink

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.models import ImageRef, LocalFile, S3Object
from tagmill.worker.sinks import encoding, tag_text
from tagmill.worker.sinks.base import Sink
from tagmill.worker.sinks.s3_annotation import ANNOTATION, S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.sinks.sidecar import SidecarSink

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

_numbers = itertools.count()


class Place(Protocol):
    """One image and the sink that writes beside it or on it."""

    ref: ImageRef

    @property
    def sink(self) -> Sink: ...

    def labels(self) -> Mapping[str, float] | None:
        """Ours, as a reader finds them."""
        ...

    def rule_labels(self) -> list[str]:
        """What rules gave the image, as a reader finds it."""
        ...

    def everything_else(self) -> Any:
        """The image's bytes and all that others wrote."""
        ...

    def everything(self) -> Any:
        """The same, and what we wrote, but for what no undo can bring back."""
        ...

    def mutations(self) -> int: ...

    def replace_content(self) -> None: ...

    def edit_values(self) -> None:
        """Change our labels by hand, and leave the rest of what we wrote."""
        ...


class FakePlace:
    def __init__(self) -> None:
        self.sink = FakeSink()
        self.ref = ImageRef(S3Object("bucket", "photo.jpg", etag="0" * 32))

    def labels(self) -> Mapping[str, float] | None:
        tagging = self.sink.written.get(self.ref.id)
        return tagging.tags["auto"] if tagging else None

    def rule_labels(self) -> list[str]:
        return list(self.sink.written[self.ref.id].labels)

    def everything_else(self) -> Any:
        return None

    def everything(self) -> Any:
        return dict(self.sink.written)

    def mutations(self) -> int:
        return self.sink.writes

    def replace_content(self) -> None:
        self.sink.changed.add(self.ref.id)

    def edit_values(self) -> None:
        standing = self.sink.written[self.ref.id]
        self.sink.written[self.ref.id] = replace(standing, tags={"auto": {"edited": 1}, "user": None})


class SidecarPlace:
    def __init__(self, folder: Path) -> None:
        self.sink = SidecarSink()
        self._folder = folder
        self._image = folder / "photo.jpg"
        self._image.write_bytes(b"\xff\xd8 image")
        (folder / "notes.txt").write_text("someone else's")
        found = self._image.stat()
        self.ref = ImageRef(LocalFile.at(str(folder), b"photo.jpg", found.st_size, found.st_mtime_ns))

    @property
    def _sidecar(self) -> Path:
        return self._folder / "photo.jpg.tags.json"

    def labels(self) -> Mapping[str, float] | None:
        if not self._sidecar.exists():
            return None
        labels: dict[str, float] = json.loads(self._sidecar.read_text())["tags"]["auto"]
        return labels

    def rule_labels(self) -> list[str]:
        return _labels_of(self._sidecar.read_text())

    def everything_else(self) -> Any:
        files = (path for path in self._folder.iterdir() if path != self._sidecar)
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    def everything(self) -> Any:
        sidecar = self._sidecar.read_bytes() if self._sidecar.exists() else None
        return self.everything_else(), sidecar

    def mutations(self) -> int:
        """A rename gives the name a new inode."""
        return self._sidecar.stat().st_ino if self._sidecar.exists() else 0

    def replace_content(self) -> None:
        os.utime(self._image, ns=(1, 1))

    def edit_values(self) -> None:
        self._sidecar.write_text(self._sidecar.read_text().replace("sky", "edited"))


class S3Place(ABC):
    """An image in a bucket. `mutations` are the requests with which its sink changes something."""

    operations: ClassVar[tuple[str, ...]]

    def __init__(
        self, client: S3Client, bucket: str, prefix: str = "", found: Capabilities | None = None
    ) -> None:
        """`found`: what the server does; None: all that Amazon S3 does."""
        self._found = found or Capabilities.of_s3(bucket)
        self.sink = self._sink(client)
        self._client = client
        self._at: Any = {"Bucket": bucket, "Key": f"{prefix}{next(_numbers)} b/photo +%41ü.jpg"}
        self._mutations = 0
        etag = put_image(
            client, self._at, tagged=self._found.copies_tags or "CopyObject" not in self.operations
        )
        self.ref = ImageRef(S3Object(self._at["Bucket"], self._at["Key"], etag=etag, size=len(IMAGE)))
        for operation in self.operations:
            client.meta.events.register(f"before-call.s3.{operation}", self._count)

    @abstractmethod
    def _sink(self, client: S3Client) -> Sink: ...

    @abstractmethod
    def labels(self) -> Mapping[str, float] | None: ...

    @abstractmethod
    def rule_labels(self) -> list[str]: ...

    @abstractmethod
    def edit_values(self) -> None: ...

    def _count(self, **_: Any) -> None:
        self._mutations += 1

    def everything(self) -> Any:
        answer: Any = self._client.get_object(**self._at)
        answer["Body"] = answer["Body"].read()
        answer["TagSet"] = self._tags()
        return {k: v for k, v in answer.items() if k not in {"ResponseMetadata", "LastModified", "VersionId"}}

    def everything_else(self) -> Any:
        return self.everything()

    def mutations(self) -> int:
        return self._mutations

    def replace_content(self) -> None:
        self._client.put_object(**self._at, Body=b"another image", Metadata={"new": "yes"})
        self._mutations = 0

    def _tags(self) -> dict[str, str]:
        tags = self._client.get_object_tagging(**self._at).get("TagSet", [])
        return {tag["Key"]: tag["Value"] for tag in tags}


class MetadataPlace(S3Place):
    operations = ("CopyObject",)

    def _sink(self, client: S3Client) -> Sink:
        return S3MetadataSink(client, lanes=2, known=lambda _: self._found)

    def labels(self) -> Mapping[str, float] | None:
        return encoding.decode(self._client.head_object(**self._at)["Metadata"])

    def rule_labels(self) -> list[str]:
        text = self._client.head_object(**self._at)["Metadata"].get("tagmill-labels", "")
        return [unquote(label) for label in text.split(",") if label]

    def everything_else(self) -> Any:
        fields = self.everything()
        fields["Metadata"] = {k: v for k, v in fields["Metadata"].items() if k not in encoding.OWN_KEYS}
        return fields

    def edit_values(self) -> None:
        metadata = self._client.head_object(**self._at)["Metadata"]
        edited = {**metadata, encoding.TAGS: "edited:1"}
        self._client.copy_object(
            **self._at, CopySource=self._at, MetadataDirective="REPLACE", Metadata=edited
        )
        self._mutations = 0


class TagsPlace(S3Place):
    operations = ("PutObjectTagging", "DeleteObjectTagging")

    def _sink(self, client: S3Client) -> Sink:
        return S3TagsSink(client, lanes=2)

    def labels(self) -> Mapping[str, float] | None:
        """A slug's hyphens are read as blanks, which is right for these tests."""
        text = self._tags().get(encoding.TAGS)
        if text is None:
            return None
        words = (word.rpartition(":") for word in text.split())
        return {label.replace("-", " "): float(confidence) for label, _, confidence in words}

    def rule_labels(self) -> list[str]:
        return self._tags().get("tagmill-labels", "").split()

    def everything_else(self) -> Any:
        fields = self.everything()
        fields.pop("TagCount", None)
        fields["TagSet"] = {k: v for k, v in fields["TagSet"].items() if k not in tag_text.OWN_KEYS}
        return fields

    def replace_content(self) -> None:
        self._client.put_object(**self._at, Body=b"another image", Tagging="team=web")
        self._mutations = 0

    def edit_values(self) -> None:
        edited = {**self._tags(), encoding.TAGS: "edited:1"}
        tag_set: Any = [{"Key": key, "Value": value} for key, value in edited.items()]
        self._client.put_object_tagging(**self._at, Tagging={"TagSet": tag_set})
        self._mutations = 0


class AnnotationPlace(S3Place):
    operations = ("PutObjectAnnotation", "DeleteObjectAnnotation")

    def _sink(self, client: S3Client) -> Sink:
        return S3AnnotationSink(client, lanes=2, proven=lambda _: True)

    def labels(self) -> Mapping[str, float] | None:
        text = self._annotations().get(ANNOTATION)
        return None if text is None else json.loads(text)["tags"]["auto"]

    def rule_labels(self) -> list[str]:
        return _labels_of(self._annotations()[ANNOTATION])

    def everything(self) -> Any:
        return {**super().everything(), "annotations": self._annotations()}

    def everything_else(self) -> Any:
        fields = self.everything()
        fields["annotations"].pop(ANNOTATION, None)
        return fields

    def edit_values(self) -> None:
        edited = self._annotations()[ANNOTATION].replace("sky", "edited")
        self._client.put_object_annotation(
            **self._at, AnnotationName=ANNOTATION, AnnotationPayload=edited.encode()
        )
        self._mutations = 0

    def _annotations(self) -> dict[str, str]:
        listed = self._client.list_object_annotations(**self._at)["Annotations"]
        names = [entry["AnnotationName"] for entry in listed]
        return {name: self._read(name) for name in names}

    def _read(self, name: str) -> str:
        answer = self._client.get_object_annotation(**self._at, AnnotationName=name)
        return answer["AnnotationPayload"].read().decode()


class S3SidecarPlace(S3Place):
    operations = ("PutObject", "DeleteObject")

    def __init__(
        self, client: S3Client, bucket: str, prefix: str = "", found: Capabilities | None = None
    ) -> None:
        super().__init__(client, bucket, prefix, found)
        self._beside: Any = {**self._at, "Key": f"{self._at['Key']}.tags.json"}
        self._mutations = 0

    def _sink(self, client: S3Client) -> Sink:
        return S3SidecarSink(client, lanes=2)

    def labels(self) -> Mapping[str, float] | None:
        text = self._sidecar()
        return None if text is None else json.loads(text)["tags"]["auto"]

    def rule_labels(self) -> list[str]:
        return _labels_of(self._sidecar() or "{}")

    def everything(self) -> Any:
        return {**super().everything(), "sidecar": self._sidecar()}

    def everything_else(self) -> Any:
        return super().everything()

    def edit_values(self) -> None:
        edited = (self._sidecar() or "").replace("sky", "edited")
        self._client.put_object(**self._beside, Body=edited.encode())
        self._mutations = 0

    def _sidecar(self) -> str | None:
        try:
            return self._client.get_object(**self._beside)["Body"].read().decode()
        except ClientError:
            return None


def _labels_of(text: str) -> list[str]:
    labels: list[str] = json.loads(text).get("labels", [])
    return labels


def put_image(client: S3Client, at: Any, *, tagged: bool) -> str:
    """Return the ETag of an image with all that a write could lose, as far as the server takes it."""
    fields = {**COMMON, "Tagging": "team=web&cost=a%20b"} if tagged else COMMON
    try:
        etag = client.put_object(**at, **fields, **DEMANDING)["ETag"]
    except ClientError:
        etag = client.put_object(**at, **fields)["ETag"]
    return etag.strip('"')


IMAGE = b"\xff\xd8 image"
COMMON: Any = {
    "Body": IMAGE,
    "ContentType": "image/jpeg",
    "CacheControl": "max-age=60",
    "ContentDisposition": 'inline; filename="a.jpg"',
    "ContentLanguage": "de",
    "Metadata": {"owner": "someone", "tagmill-other": "not ours"},
}
DEMANDING: Any = {"StorageClass": "STANDARD_IA", "ServerSideEncryption": "AES256"}
