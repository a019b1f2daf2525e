"""Finds images of equal content in a whole plan, by what a listing tells or by reading files of equal size.

An object's ETag is the MD5 of its content unless it was uploaded in parts or is encrypted with a key of KMS
or of the customer (S3 API reference, "Object"): then equal content has different ETags, and is not found.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import orjson

from tagmill.worker.background import Stopped
from tagmill.worker.models import Json
from tagmill.worker.store.duplicates import Duplicates, Member
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.scratch import scratch_database, to_number, to_place

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
#: Servers that compute none give every object the same: zeros, or the MD5 of nothing.
_NO_DIGESTS = frozenset({"0" * 32, hashlib.md5(b"", usedforsecurity=False).hexdigest()})
_SCHEMA = """
    CREATE TABLE image (place INTEGER PRIMARY KEY, size INTEGER, digest BLOB, id TEXT);
    CREATE TABLE file (place INTEGER PRIMARY KEY, size INTEGER, mtime_ns INTEGER, id TEXT);
    CREATE TABLE member (place INTEGER, leader INTEGER, size INTEGER);
"""
_OF_EQUAL_SIZE = """
    SELECT * FROM file WHERE size IN (SELECT size FROM file GROUP BY size HAVING count(*) > 1) ORDER BY place
"""
_GROUP = """
    INSERT INTO member SELECT place, leader, size FROM (
        SELECT place, size, min(place) OVER same AS leader, count(*) OVER same AS members
        FROM image WINDOW same AS (PARTITION BY digest, size)
    ) WHERE members > 1
"""
_MEMBERS = """
    SELECT member.place, leader, id FROM member JOIN image ON image.place = leader ORDER BY member.place
"""
_COUNT = "SELECT count(*), coalesce(sum(size), 0) FROM member WHERE place <> leader"


def find_duplicates(plan: Plan, keep: Duplicates | None, stopped: Stopped) -> Json | None:
    """Return how many images, of how many bytes, have the content of an earlier one; `keep` is told which.

    None when stopped. Memory is bounded; the temporary files take about 200 bytes an image.
    """
    with scratch_database(_SCHEMA) as database:
        for shard in plan.shards():
            if stopped():
                return None
            _insert(database, plan, shard)
        files = database.cursor().execute(_OF_EQUAL_SIZE)
        database.executemany("INSERT INTO image VALUES (?, ?, ?, ?)", _read(files, stopped))
        if stopped():
            return None
        database.execute(_GROUP)
        if keep is not None:
            _keep(database.cursor().execute(_MEMBERS), keep)
        images, size = database.execute(_COUNT).fetchone()
        return {"images": images, "bytes": size}


def _insert(database: sqlite3.Connection, plan: Plan, shard: int) -> None:
    objects, files = [], []
    for index, line in enumerate(plan.lines(shard)):
        planned = orjson.loads(line)
        if "schema" in planned:
            continue  # it has its answer
        place, source = to_number((shard, index)), planned["source"]
        if planned["kind"] == "file":
            files.append((place, source["size"], source["mtime_ns"], source["location"]))
        elif planned["kind"] == "s3" and (digest := _digest(source)) is not None:
            objects.append((place, source["size"], digest, f"s3://{source['bucket']}/{source['key']}"))
    database.executemany("INSERT INTO image VALUES (?, ?, ?, ?)", objects)
    database.executemany("INSERT INTO file VALUES (?, ?, ?, ?)", files)


def _digest(source: Json) -> bytes | None:
    """Return the MD5 that the ETag is; None where it tells nothing of the content."""
    etag = source.get("etag", "")
    told = "size" in source and _MD5.fullmatch(etag) and etag.lower() not in _NO_DIGESTS
    return bytes.fromhex(etag) if told else None


def _read(
    files: Iterator[tuple[int, int, int, str]], stopped: Stopped
) -> Iterator[tuple[int, int, bytes, str]]:
    for place, size, mtime_ns, location in files:
        if stopped():
            return
        digest = file_digest(unquote_to_bytes(location.removeprefix("file://")), size, mtime_ns)
        if digest is not None:
            yield place, size, digest, location


def file_digest(path: bytes, size: int, mtime_ns: int) -> bytes | None:
    """SHA-256 of a file's content; None for one that cannot be read or is not, or no longer, as planned."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not _is_as_planned(file.fileno(), size, mtime_ns):
                return None
            digest = hashlib.file_digest(file, "sha256").digest()
            return digest if _is_as_planned(file.fileno(), size, mtime_ns) else None
    except OSError:
        return None


def _is_as_planned(descriptor: int, size: int, mtime_ns: int) -> bool:
    now = os.fstat(descriptor)
    return stat.S_ISREG(now.st_mode) and (now.st_size, now.st_mtime_ns) == (size, mtime_ns)


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a named pipe would wait for whoever writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _keep(members: Iterator[tuple[int, int, str]], keep: Duplicates) -> None:
    found = (Member(to_place(place), to_place(leader), leader_id) for place, leader, leader_id in members)
    for shard, of_shard in itertools.groupby(found, key=lambda member: member.place[0]):
        keep.write(shard, of_shard)
