"""What is known of an image since a run last looked at it: one line of a source's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from tagmill.worker.errors import ImageRejectedError
from tagmill.worker.models import Json, LocalFile, Place, S3Object, Source, Status, WriteStatus
from tagmill.worker.rows import FRESH, UNDONE

ALREADY_TAGGED = "already_tagged"  #: code of a row whose image bears the tags of another run
MAX_ETAGS = 4  #: kept of one content: a copy of ours may give it another
_FILE = "file://"
_LISTS = ("etags", "versions", "sinks", "place")


def key_of(image_id: str) -> bytes:
    """Sorts as images are listed: objects by key, files by path, handles by name."""
    if image_id.startswith(_FILE):
        return _FILE.encode() + unquote_to_bytes(image_id.removeprefix(_FILE))
    return image_id.encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class Known:
    """Two are equal when they say the same."""

    id: str
    status: str  #: of its row; `tagged` too where it has the answer of its double, or an earlier run's tags
    run: str
    at: str  #: RFC 3339: when it was answered, else when the run was created
    engine_config: str
    policy: str | None = None  #: None: its tags were taken back
    place: Place | None = None  #: of its row in the run; None: that has no answer
    size: int | None = None
    modified: str | int | None = None  #: as listed: `last_modified`, `mtime_ns`
    etags: tuple[str, ...] = ()  #: as planned, and as our own copies left it
    versions: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()  #: where no write-back has to be made up for
    refused: bool = False  #: by the service, for what it is: asking again would cost a call and say the same
    fresh: bool = False  #: its content changed since its last tags, and it has not been answered since
    line: bytes | None = field(default=None, compare=False, repr=False)  #: that it was read from

    @property
    def key(self) -> bytes:
        return key_of(self.id)

    @property
    def tagged(self) -> bool:
        return self.status == Status.TAGGED

    @property
    def failed(self) -> bool:
        """Whether asking again may help; what was quarantined would kill two more workers."""
        return self.status == Status.FAILED

    def has_content_of(self, source: Source) -> bool:
        """Whether what is listed now is what the run looked at, or our own copy of it."""
        match source:
            case S3Object(version_id=str(version)) if version in self.versions:
                return True
            case S3Object(etag=str(etag)):
                return etag in self.etags
            case S3Object():
                return (source.size, source.last_modified) == (self.size, self.modified)
            case LocalFile():
                return (source.size, source.mtime_ns) == (self.size, self.modified)
            case _:
                return True

    def to_line(self) -> bytes:
        """Say only what is not as usual."""
        said = {name: value for name, usual in _FIELDS if (value := getattr(self, name)) != usual}
        return self.line or orjson.dumps(said)

    @classmethod
    def from_line(cls, line: bytes) -> Known:
        value: dict[str, Any] = orjson.loads(line)
        for name in _LISTS:
            if name in value:
                value[name] = tuple(value[name])
        return cls(**value, line=line)

    @classmethod
    def of_row(cls, row: Json, created_at: str) -> Known | None:
        """`created_at`: of its run. None: the row says nothing of an image, or leaves it as it was."""
        source, status = row["source"], row["status"]
        if status == Status.CANCELLED or "list" in source:
            return None
        marked = bool(row["error"] and row["error"]["code"] == ALREADY_TAGGED)
        answered = row["raw_tags"] is not None
        undone = UNDONE in row["flags"]
        return cls(
            row["id"],
            Status.TAGGED.value if answered or marked else status,
            row["run_id"],
            row["tagged_at"] or created_at,
            row["engine_config"],
            policy=None if undone else row["policy"],
            place=(row["shard"], row["index"]) if answered else None,
            size=source.get("size"),
            modified=source.get("last_modified", source.get("mtime_ns")),
            etags=_distinct([source.get("etag"), *_after(row, "etag_after")]),
            versions=_distinct([source.get("version_id"), *_after(row, "version_after")]),
            sinks=() if undone else tuple(_settled(row)),
            refused=bool(row["error"] and row["error"]["class"] == ImageRejectedError.__name__),
            fresh=FRESH in row["flags"] and status == Status.FAILED,
        )

    def over(self, earlier: Known) -> Known:
        """Return what holds now, of what a run found and what was known before it came to its end."""
        if self.run == earlier.run:
            return self
        if self._vouches_for(earlier):
            return replace(earlier, etags=_distinct([*self.etags, *earlier.etags])[:MAX_ETAGS], line=None)
        later = datetime.fromisoformat(earlier.at) > datetime.fromisoformat(self.at)
        return earlier if later else self

    def _vouches_for(self, earlier: Known) -> bool:
        """Whether the run found the tags in their place, so that the earlier answer still is the image's."""
        settings = (self.engine_config, self.policy) == (earlier.engine_config, earlier.policy)
        return self.tagged and self.place is None and earlier.tagged and settings


_FIELDS = [(item.name, item.default) for item in fields(Known) if item.compare]


def _after(row: Json, name: str) -> list[str | None]:
    """What write-backs that found the planned content say of the object they left."""
    done = (WriteStatus.WRITTEN, WriteStatus.UNCHANGED)
    return [write[name] for write in row["writes"].values() if write["status"] in done]


def _settled(row: Json) -> Iterable[str]:
    return (sink for sink, write in row["writes"].items() if write["status"] != WriteStatus.FAILED)


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))
