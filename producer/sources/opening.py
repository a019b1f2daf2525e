"""From a run's frozen source to the source itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from tagmill.producer.sources.base import Source
from tagmill.producer.sources.folder import Folder
from tagmill.producer.sources.handles import HandleList
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.spec import STDIN, Kind, SourceSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def open_source(
    spec: SourceSpec, *, s3_client: Callable[[], S3Client], open_input: Callable[[str], BinaryIO]
) -> Source:
    """Nothing is read before the first item; `open_input` gives what is under the run's `input/` by name."""
    if spec.kind is Kind.S3:
        return S3Listing(s3_client, spec.bucket, spec.prefix, spec.filters)
    if spec.kind is Kind.FOLDER:
        return Folder(spec.path, spec.filters)
    if spec.input is None:
        raise ValueError("a list of handles without its copy")
    copy = spec.input
    return HandleList(lambda: open_input(copy.name), copy.name, copy.format, copy.field)


def open_original(spec: SourceSpec, stdin: BinaryIO) -> BinaryIO | None:
    """What has to be copied to `input/` under `spec.input.name` when the run is created; None: nothing."""
    if spec.input is None:
        return None
    return stdin if spec.uri == STDIN else open(spec.path, "rb")
