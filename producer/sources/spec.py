"""What a run's images come from, frozen when the run is created."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.filtering import extension
from tagmill.producer.sources.folder import IMAGE_EXTENSIONS
from tagmill.producer.sources.handles import DEFAULT_FIELD, HandleList, ListFormat
from tagmill.producer.sources.inventory_manifest import INVENTORY_SCHEME, MANIFEST_NAME, split_uri
from tagmill.producer.sources.manifest import first_source
from tagmill.producer.sources.options import SEEDS, SourceOptions
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.models import Json, LocalFile, S3Object, Source

S3_SCHEME = "s3://"
FILE_SCHEME = "file://"
STDIN = "-"
NO_OPTIONS = SourceOptions()
SOURCE_RULE = (
    "SOURCE is s3://bucket/prefix, inventory+s3://bucket/path/manifest.json or …/config-id/, a folder, "
    "an image, a .txt, .csv or .jsonl list (an earlier manifest is one), or - for a list on stdin"
)

_BUCKET = re.compile(
    r"[a-zA-Z0-9.\-_]{1,255}"
)  # what botocore lets through; not every endpoint has AWS' rules
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LIST_FORMATS = {
    "txt": ListFormat.TXT,
    "csv": ListFormat.CSV,
    "jsonl": ListFormat.JSONL,
    "ndjson": ListFormat.JSONL,
}


class Kind(StrEnum):
    FOLDER = "folder"
    S3 = "s3"
    HANDLES = "handles"


_KINDS_OF_IMAGES: Mapping[type[Source], Kind] = {S3Object: Kind.S3, LocalFile: Kind.FOLDER}


@dataclass(frozen=True, slots=True)
class Input:
    """A list's copy under the run's `input/`: stdin cannot be read again, and a file may be edited."""

    name: str
    format: ListFormat
    field: str = DEFAULT_FIELD  #: CSV column or JSONL field

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Input:
        return cls(value["name"], ListFormat(value["format"]), value["field"])


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """All that opens the same source again, in `run.json`; no secrets."""

    kind: Kind
    uri: str  #: `s3://bucket/prefix` as it is, `file:///…` percent-encoded, or `-`
    filters: Filters = field(default_factory=Filters)
    limit: int | None = None
    sample: int | None = None
    seed: int | None = None  #: of the sample
    input: Input | None = None  #: for lists
    of_bucket: str | None = None  #: where the images of a list lie
    all_versions: bool = False  #: of each object, not only the latest

    @property
    def bucket(self) -> str:
        return self.of_bucket or split_uri(self.uri)[0]

    @property
    def prefix(self) -> str:
        return "" if self.input else split_uri(self.uri)[1]

    @property
    def is_inventory(self) -> bool:
        return self.input is not None and self.input.format is ListFormat.INVENTORY

    @property
    def has_versions(self) -> bool:
        """Whether it can tell all versions of an object."""
        return self.is_inventory or (self.kind is Kind.S3 and self.input is None)

    @property
    def path(self) -> bytes:
        """Of the folder, of the one image, or of the list that was copied."""
        return unquote_to_bytes(self.uri.removeprefix(FILE_SCHEME))

    def to_json(self) -> Json:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceSpec:
        fields = dict(value)
        fields["kind"] = Kind(value["kind"])
        fields["filters"] = _filters_from_json(value["filters"])
        fields["input"] = Input.from_json(value["input"]) if value["input"] else None
        return cls(**fields)


def _filters_from_json(value: Mapping[str, Any]) -> Filters:
    fields: Json = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    return Filters(**fields)


# --- from what a user types -------------------------------------------------------------------------------


def _new_seed() -> int:
    return secrets.randbelow(SEEDS)


def parse_source(
    text: str,
    options: SourceOptions = NO_OPTIONS,
    *,
    new_seed: Callable[[], int] = _new_seed,
) -> SourceSpec:
    """Look at a folder or a list, never at S3. Raise `NotFoundError` or `ConfigError` in one line."""
    options.check_counts()
    spec = _locate(text, options)
    if options.all_versions and not spec.has_versions:
        raise ConfigError(
            "--all-versions is for s3://bucket/prefix and reports of S3 Inventory (inventory+s3://…): "
            "other sources keep no versions, or name them themselves"
        )
    seed = new_seed() if options.sample and options.seed is None else options.seed
    drawn: Json = {"limit": options.limit, "sample": options.sample, "seed": seed}
    return dataclasses.replace(spec, **drawn, all_versions=options.all_versions)


def _locate(text: str, options: SourceOptions) -> SourceSpec:
    if text == STDIN:
        return _list_spec(STDIN, "stdin", options)
    if text.startswith(S3_SCHEME):
        return _s3_spec(text, options)
    if text.startswith(INVENTORY_SCHEME):
        return _inventory_spec(text, options)
    if not text:
        raise ConfigError(f"the source is empty: {SOURCE_RULE}")
    return _path_spec(os.path.abspath(_path_of(text)), options)


def _path_of(text: str) -> bytes:
    scheme = _SCHEME.match(text)
    if not scheme:
        return os.fsencode(text)
    if scheme[0] != FILE_SCHEME:  # the rest may be a signed URL: not repeated
        raise ConfigError(f"{scheme[0]} is no source: {SOURCE_RULE}")
    return unquote_to_bytes(text.removeprefix(FILE_SCHEME))


def _s3_spec(uri: str, options: SourceOptions) -> SourceSpec:
    options.refuse_list_options()
    spec = SourceSpec(Kind.S3, uri, options.filters())
    if not _BUCKET.fullmatch(spec.bucket):
        raise ConfigError(f"{spec.bucket!r} is no bucket name: write s3://bucket/prefix")
    return spec


def _inventory_spec(uri: str, options: SourceOptions) -> SourceSpec:
    """Its manifest says later which bucket it is about; which manifest, unless it is named, the folder."""
    options.refuse_list_options()
    bucket, key = split_uri(uri)
    named = uri.endswith("/") or key.rpartition("/")[2] == MANIFEST_NAME
    if not (named and _BUCKET.fullmatch(bucket)):
        raise ConfigError(
            "name the manifest of an inventory, inventory+s3://bucket/path/manifest.json, "
            "or the folder of its configuration, inventory+s3://bucket/path/config-id/"
        )
    copy = Input(MANIFEST_NAME, ListFormat.INVENTORY)
    return SourceSpec(Kind.S3, uri, options.filters(), input=copy)


def _path_spec(path: bytes, options: SourceOptions) -> SourceSpec:
    shown = path.decode(errors="replace")
    is_folder = _is_folder(path, shown)
    uri, suffix = FILE_SCHEME + quote_from_bytes(path), extension(shown)
    if not is_folder and (options.list_format or suffix in _LIST_FORMATS):
        return _file_spec(uri, path, os.path.basename(shown), options)
    if not is_folder and suffix not in options.wanted_extensions(IMAGE_EXTENSIONS):
        raise ConfigError(f"{shown!r} is neither an image nor a list: {SOURCE_RULE}")
    options.refuse_list_options()
    return SourceSpec(Kind.FOLDER, uri, options.filters(IMAGE_EXTENSIONS))


def _is_folder(path: bytes, shown: str) -> bool:
    """Raise an error for anything but a readable folder or regular file."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in it
        raise NotFoundError(f"no folder or file {shown!r}: {SOURCE_RULE}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {shown!r}: {error.strerror}") from None
    is_folder = stat.S_ISDIR(mode)
    if not is_folder and not stat.S_ISREG(mode):
        raise ConfigError(f"{shown!r} is neither a folder nor a file: {SOURCE_RULE}")
    if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK):
        raise ConfigError(f"cannot read {shown!r}: check its permissions")
    return is_folder


def _file_spec(uri: str, path: bytes, name: str, options: SourceOptions) -> SourceSpec:
    """A list of handles, or a manifest, whose first row tells what kind of images it is about."""
    spec = _list_spec(uri, name, options)
    said = ListFormat(options.list_format) if options.list_format else None
    if said not in {None, ListFormat.MANIFEST} or options.field:
        return _checked(spec)
    with open(path, "rb") as stream:
        first = first_source(stream)
    if first is None and said is None:
        return _checked(spec)
    if first is None:
        raise ConfigError(f"{name!r} is no manifest: its first line is no row of one")
    copy = Input(spec.input.name if spec.input else name, ListFormat.MANIFEST)
    kind = _KINDS_OF_IMAGES.get(type(first), Kind.HANDLES)
    bucket = first.bucket if isinstance(first, S3Object) else None
    return dataclasses.replace(spec, kind=kind, input=copy, of_bucket=bucket)


def _list_spec(uri: str, name: str, options: SourceOptions) -> SourceSpec:
    options.refuse_filters()
    if uri == STDIN and options.list_format == ListFormat.MANIFEST:
        raise ConfigError("a manifest cannot be read from stdin: name its file")
    list_format = options.format_or(_LIST_FORMATS.get(extension(name), ListFormat.TXT))
    if options.field and list_format is ListFormat.TXT:
        raise ConfigError("a text list has no column or field: say that its format is csv or jsonl")
    copy_name = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "list"
    return SourceSpec(Kind.HANDLES, uri, input=Input(copy_name, list_format, options.field or DEFAULT_FIELD))


def _checked(spec: SourceSpec) -> SourceSpec:
    """Read the beginning of a list now, rather than after the run was created."""

    def opened() -> BinaryIO:
        return open(spec.path, "rb")

    if spec.input:
        HandleList(opened, spec.input.name, spec.input.format, spec.input.field).check()
    return spec
