"""The records that travel: image references, answers, outcomes, chunks, rows. Standard library only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

SCHEMA = 1  #: version of the manifest row and of every `--json` object
MESSAGE_VERSION = 1  #: version of the chunk message
Json = dict[str, Any]
Place = tuple[int, int]  #: shard and index of an image in pass 0; its rows of later passes have them, too
TagSets = dict[str, Any]  #: `{"auto": {label: confidence}, "user": None | anything}`


def moment(at: datetime) -> str:
    """Return a time of UTC in RFC 3339, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def canonical_hash(value: Any) -> str:
    """First 16 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: A handle of Filestack: filestack-js checks `[\w-]{20}`, documented samples have 19 to 21 characters.
HANDLE = re.compile(r"[A-Za-z0-9_-]{10,64}")

# --- what is tagged ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class S3Object:
    bucket: str
    key: str
    etag: str | None = None  #: without quotes
    size: int | None = None
    last_modified: str | None = None  #: RFC 3339, UTC
    version_id: str | None = None
    is_latest: bool | None = None  #: of versions that were listed one by one; None: they were not

    @property
    def id(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_earlier(self) -> bool:
        """Whether it is a version behind the latest one: what names the object alone does not name it."""
        return self.is_latest is False


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file below a source folder; `location` keeps every byte of its name, `path` is for reading."""

    location: str  #: `file:///…`, bytes percent-encoded
    path: str  #: relative to the source folder
    size: int
    mtime_ns: int

    @classmethod
    def at(cls, root: str | bytes, relative: bytes, size: int, mtime_ns: int) -> LocalFile:
        absolute = os.path.join(os.fsencode(root), relative)
        return cls(f"file://{quote_from_bytes(absolute)}", relative.decode(errors="replace"), size, mtime_ns)

    @property
    def id(self) -> str:
        return self.location

    @property
    def absolute(self) -> bytes:
        """The path to open."""
        return unquote_to_bytes(self.location.removeprefix("file://"))


@dataclass(frozen=True, slots=True)
class Handle:
    handle: str
    line: int | None = None  #: where the list named it, from 1
    behind: S3Object | None = None  #: the object that keeps its bytes, where write-back goes

    def __post_init__(self) -> None:
        if isinstance(self.behind, Mapping):  # out of a plan line or a row
            object.__setattr__(self, "behind", S3Object(**self.behind))

    @property
    def id(self) -> str:
        return f"filestack:{self.handle}"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a list that names no image: planned all the same, so that its failed row is not lost."""

    list_name: str
    line: int
    reason: str

    @property
    def id(self) -> str:
        return f"{self.list_name}:{self.line}"


Source = S3Object | LocalFile | Handle | BadLine
_SOURCES: dict[str, type[Source]] = {"s3": S3Object, "file": LocalFile, "handle": Handle, "bad_line": BadLine}
_KINDS = {kind: name for name, kind in _SOURCES.items()}


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One planned image."""

    source: Source
    fresh: bool = False  #: its content changed since its last tags: the CDN's cached answer will not do

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def identity(self) -> str:
        """The id, and with it the version where versions were listed one by one."""
        if isinstance(self.source, S3Object) and self.source.is_latest is not None:
            return f"{self.id}?versionId={self.source.version_id}"
        return self.id

    @property
    def behind(self) -> S3Object | None:
        return self.source.behind if isinstance(self.source, Handle) else None

    @property
    def target(self) -> ImageRef:
        """What write-back is about: of a handle the object behind it, where that is known."""
        return self if self.behind is None else ImageRef(self.behind, self.fresh)

    def at(self, behind: S3Object | None) -> ImageRef:
        """The same image, with what was found out about where its bytes are."""
        if behind is None or not isinstance(self.source, Handle):
            return self
        return dataclasses.replace(self, source=dataclasses.replace(self.source, behind=behind))

    def to_json(self) -> Json:
        """A plan line."""
        line: Json = {"kind": _KINDS[type(self.source)], "source": _without_none(self.source)}
        return line | {"fresh": True} if self.fresh else line

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> ImageRef:
        return cls(_SOURCES[line["kind"]](**line["source"]), fresh=line.get("fresh", False))


def _without_none(source: Source) -> Json:
    # `asdict` copies deeply, which is most of the time of planning.
    pairs = ((name, getattr(source, name)) for name in source.__slots__)
    return {name: value for name, value in pairs if value is not None}


# --- what an engine answers -------------------------------------------------------------------------------

PARTIAL = "partial"  #: flag: a part of the answer was unusable and dropped, or a task of it failed


@dataclass(frozen=True, slots=True)
class Answer:
    """A paid result, or the calls so far of one that takes several."""

    tags: TagSets
    flags: tuple[str, ...] = ()  #: such as `no_tags` or `partial`
    http_status: int | None = None
    latency_ms: int | None = None
    calls: int = 1  #: of the last step
    results: Mapping[str, Any] = field(
        default_factory=dict
    )  #: `{task: {"data": …}}`, as a Workflow returns them
    complete: bool = True  #: False: `start` is to be called again, with this answer

    def to_json(self) -> Json:
        # Not `asdict`: its deep copy of the tags would cost a tenth of a worker's time.
        return {
            "tags": self.tags,
            "flags": list(self.flags),
            "http_status": self.http_status,
            "latency_ms": self.latency_ms,
            "calls": self.calls,
            "results": self.results,
            **({} if self.complete else {"complete": False}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        return cls(**{**value, "flags": tuple(value["flags"])})


NOTHING_YET = Answer({"auto": {}, "user": None}, calls=0, complete=False)  #: of several calls


@dataclass(frozen=True, slots=True)
class Pending:
    """A paid answer that is still to come, from a workflow job."""

    job_id: str | None = None  #: None: the service did not tell


# --- what becomes of an image -----------------------------------------------------------------------------


class Status(StrEnum):
    TAGGED = "tagged"
    FAILED = "failed"
    SKIPPED = "skipped"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"


class WriteStatus(StrEnum):
    WRITTEN = "written"
    UNCHANGED = "unchanged"
    STALE = "stale"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Write:
    """What one sink did for one image."""

    status: WriteStatus
    etag_after: str | None = None
    version_after: str | None = None
    reason: str | None = None
    truncated: int = 0  #: labels that found no room


@dataclass(frozen=True, slots=True)
class Failure:
    """The `error` of a row."""

    class_: str  #: the error class, such as `ImageNotFoundError`
    code: str
    message: str

    def to_json(self) -> Json:
        return {"class": self.class_, "code": self.code, "message": self.message}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Failure:
        return cls(value["class"], value["code"], value["message"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Terminal result of one image, before it has a place in a manifest."""

    status: Status
    answer: Answer | None = None
    error: Failure | None = None
    attempts: int = 0
    calls: int = 0
    maybe_charged: int = 0
    http_status: int | None = None
    latency_ms: int | None = None
    writes: Mapping[str, Write] = field(default_factory=dict)
    transfer: str | None = None
    tagged_at: str | None = None
    behind: S3Object | None = None  #: of a handle, as it was when the service was asked
    results: Mapping[str, Any] = field(default_factory=dict)  #: paid for, though there is no answer

    def to_json(self) -> Json:
        """What the journal keeps; calls and attempts are counted there beside it."""
        return {
            "status": self.status.value,
            "answer": self.answer and self.answer.to_json(),
            "error": self.error and self.error.to_json(),
            "http_status": self.http_status,
            "latency_ms": self.latency_ms,
            "writes": {name: dataclasses.asdict(write) for name, write in self.writes.items()},
            "transfer": self.transfer,
            "tagged_at": self.tagged_at,
            "behind": self.behind and _without_none(self.behind),
            **({"results": self.results} if self.results else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        writes = {
            name: Write(**{**write, "status": WriteStatus(write["status"])})
            for name, write in value["writes"].items()
        }
        return cls(
            **{
                **value,
                "status": Status(value["status"]),
                "answer": value["answer"] and Answer.from_json(value["answer"]),
                "error": value["error"] and Failure.from_json(value["error"]),
                "writes": writes,
                "behind": value["behind"] and S3Object(**value["behind"]),
            }
        )


# --- where work is ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """A slice of a plan shard; its Celery message is these fields and nothing else."""

    run_id: str
    pass_no: int
    shard: int
    offset: int
    count: int

    @property
    def id(self) -> str:
        """Unique in a deployment; sorts like the plan."""
        return f"{self.run_id}/{self.pass_no:04d}/{self.shard:08d}-{self.offset:05d}"

    @property
    def name(self) -> str:
        """Unique in its pass; the stem of its part file."""
        return f"{self.shard:08d}-{self.offset:05d}"

    def to_message(self) -> Json:
        return {
            "v": MESSAGE_VERSION,
            "run": self.run_id,
            "pass": self.pass_no,
            "shard": self.shard,
            "offset": self.offset,
            "count": self.count,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Chunk:
        """Raise ValueError for a message of another version or shape."""
        if message.get("v") != MESSAGE_VERSION:
            raise ValueError(f"chunk message version {message.get('v')!r}, not {MESSAGE_VERSION}")
        try:
            numbers = [int(message[name]) for name in ("pass", "shard", "offset", "count")]
            return cls(str(message["run"]), *numbers)
        except (KeyError, TypeError) as error:
            raise ValueError(f"chunk message without {error}") from error
