"""A stored file's metadata, computed when asked: https://www.filestack.com/docs/javascript-api/metadata-v3."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tagmill.sandbox.files import FileStore, StoredFile
from tagmill.sandbox.pictures import measure

DEFAULT_FIELDS = (
    "mimetype",
    "uploaded",
    "writeable",
    "filename",
    "size",
    "location",
    "path",
    "container",
    "key",
)
HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
ON_REQUEST = ("width", "height", "cloud", "source_url", *HASHES)


def describe(
    files: FileStore, container: str, stored: StoredFile, query: Mapping[str, str]
) -> dict[str, Any]:
    """The fields named in the query as `=true`, the default ones when none is. Reads the file."""
    wanted = [name for name in (*DEFAULT_FIELDS, *ON_REQUEST) if query.get(name) == "true"]
    path = files.path(stored.handle)
    return {name: _field(name, container, stored, path) for name in wanted or DEFAULT_FIELDS}


def _field(name: str, container: str, stored: StoredFile, path: str) -> Any:
    if name in HASHES:
        return _digest(name, path)
    if name in {"width", "height"}:
        size = measure(path)
        return None if size is None else size[name == "height"]
    return {
        "mimetype": stored.mimetype,
        "uploaded": stored.uploaded,
        "writeable": True,
        "filename": stored.filename,
        "size": stored.size,
        "location": "S3",
        "path": stored.key,
        "key": stored.key,
        "container": container,
        "cloud": "S3",
        "source_url": None,
    }[name]


def _digest(name: str, path: str) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, name).hexdigest()
