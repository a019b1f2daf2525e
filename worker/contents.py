"""The bytes of images that have to be uploaded before they can be tagged."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tagmill.worker.errors import (
    AccessDeniedError,
    ImageNotFoundError,
    ImageRejectedError,
    PermanentError,
    RetryableError,
    SinkConflictError,
    SinkRejectedError,
)
from tagmill.worker.models import LocalFile, S3Object
from tagmill.worker.signatures import SNIFFED_BYTES, image_type
from tagmill.worker.sinks.s3_errors import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_BYTES = 256 * 1024 * 1024  #: https://www.filestack.com/docs/image-transformations/security
NOT_AN_IMAGE = "not_an_image"  #: error code: nothing to tag, so no failure of the run
UNAVAILABLE = "source_unavailable"  #: error code: the library, not the engine, was busy
_CLASSES: dict[str, type[PermanentError]] = {"missing": ImageNotFoundError, "forbidden": AccessDeniedError}


@dataclass(frozen=True, slots=True)
class Content:
    data: bytes = field(repr=False)
    content_type: str
    filename: str


def read_file(file: LocalFile) -> Content:
    """Blocks. Raise an `ItemError`."""
    return _content(_file_bytes(file), file.path, file.id)


def read_object(s3: S3Client, image: S3Object) -> Content:
    """Blocks. Raise an `ItemError`, or `CredentialsError` for those of AWS."""
    return _content(_object_bytes(s3, image), image.key, image.id)


def address(image: S3Object) -> dict[str, Any]:
    """What names the object in a request."""
    version = {} if image.version_id is None else {"VersionId": image.version_id}
    return {"Bucket": image.bucket, "Key": image.key, **version}


@contextmanager
def reading() -> Iterator[None]:
    """S3 refuses to be read for the reasons it refuses to be written; only what follows differs."""
    try:
        with translated("GetObject"):
            yield
    except SinkConflictError as error:
        raise RetryableError(str(error), code=UNAVAILABLE, http_status=error.http_status) from None
    except SinkRejectedError as error:
        error_class = _CLASSES.get(error.code, ImageRejectedError)
        raise error_class(str(error), http_status=error.http_status) from None


def _object_bytes(s3: S3Client, image: S3Object) -> bytes:
    _check_size(image.size or 0, image.id)
    with reading():
        answer = s3.get_object(**address(image))
        with answer["Body"] as body:
            _check_size(answer["ContentLength"], image.id)
            return body.read()


def _file_bytes(file: LocalFile) -> bytes:
    try:
        with open(file.absolute, "rb", opener=_open_without_waiting) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageRejectedError(f"{file.id} is no regular file", code=NOT_AN_IMAGE)
            _check_size(status.st_size, file.id)
            return opened.read(MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFoundError(f"{file.id} is gone") from None
    except IsADirectoryError:
        raise ImageRejectedError(f"{file.id} is a folder", code=NOT_AN_IMAGE) from None
    except PermissionError:
        raise ImageRejectedError(f"{file.id}: allow the worker to read it", code="unreadable") from None
    except OSError as error:
        raise RetryableError(f"{file.id} cannot be read now: {error.strerror}", code=UNAVAILABLE) from None


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a named pipe would wait for whoever writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_size(size: int, image_id: str) -> None:
    if size > MAX_BYTES:
        raise ImageRejectedError(
            f"{image_id} is larger than 256 MiB, the most that can be uploaded", code="too_large"
        )


def _content(data: bytes, path: str, image_id: str) -> Content:
    content_type = image_type(data[:SNIFFED_BYTES])
    if content_type is None:
        raise ImageRejectedError(f"{image_id} holds no image of a known kind", code=NOT_AN_IMAGE)
    return Content(data, content_type, os.path.basename(path))
