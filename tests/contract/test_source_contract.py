"""What every source promises the planner: folder, S3 (moto's server), lists of handles, manifests."""

from __future__ import annotations

import gzip
import io
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.s3 import S3UnderTest, canned_s3

from tagmill.producer.sources.base import Cursor, Filters, Listed, Source
from tagmill.producer.sources.folder import IMAGE_EXTENSIONS, Folder
from tagmill.producer.sources.handles import HandleList, ListFormat
from tagmill.producer.sources.manifest import ManifestList
from tagmill.producer.sources.s3_client import listing_client
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.s3_versions import S3Versions
from tagmill.worker.models import BadLine, Failure, Handle, ImageRef, LocalFile, Outcome, S3Object, Status
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row

MANY = 50_000
FLAT_BYTES = 4 * 2**20  #: a page of S3 and all that parsing it needs takes half; all the items ten times that
ODD_NAMES = (
    "a b.jpg",
    "a+b.jpg",
    "a%41.jpg",
    "a&b<c>.jpg",
    "line\nbreak.jpg",
    "ümläut.JPG",
    "写真.png",
    "😀.gif",
)


@dataclass(frozen=True)
class Library:
    source: Source
    ids: list[str]  #: of what is planned, in order
    skipped: Counter[str]
    order: Callable[[Cursor], Any]  #: what the library is sorted by


def folder_library(root: Path) -> Library:
    names = [
        "a.jpg",
        "a/a.jpg",
        "a/b/c.png",
        "a0.jpg",
        "b.webp",
        "sub/z.jpg",
        *(f"odd/{name}" for name in ODD_NAMES),
    ]
    raw = [name.encode() for name in names] + [b"odd/\xff\xfe.jpg"]
    for name in [*raw, b"notes.txt", b".hidden.jpg", b".git/x.jpg"]:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"image")
    (root / "empty.jpg").touch()
    (root / "sub" / "loop").symlink_to(root, target_is_directory=True)
    (root / "broken.jpg").symlink_to(root / "nowhere")
    ids = ["file://" + quote_from_bytes(os.path.join(os.fsencode(root), name)) for name in sorted(raw)]
    skipped = Counter(extension=1, hidden=2, empty=1, loop=1, unreadable=1)
    return Library(Folder(os.fsencode(root), Filters(extensions=IMAGE_EXTENSIONS)), ids, skipped, path_of)


def s3_library(s3: S3UnderTest) -> Library:
    """Without a line break in a key, which moto's server does not take: the unit tests have one."""
    bucket, client = s3.bucket(), s3.client()
    keys = [
        "in/a.jpg",
        "in/a/a.jpg",
        "in/a0.jpg",
        "in/b",
        *(f"in/odd/{name}" for name in ODD_NAMES if "\n" not in name),
    ]
    for key in [*keys, "in/a.jpg.tags.json", "in/no.txt", "other/x.jpg"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
    for key in ("in/", "in/a/", "in/empty.jpg"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    client.put_object(Bucket=bucket, Key="in/old.jpg", Body=b"image", StorageClass="GLACIER")
    ids = [f"s3://{bucket}/{key}" for key in sorted(keys, key=str.encode)]
    skipped = Counter(folder=2, empty=1, sidecar=1, excluded=1, archived=1)
    source = S3Listing(lambda: client, bucket, "in/", Filters(exclude=("*.txt",)), page_size=3)
    return Library(source, ids, skipped, lambda cursor: cursor["after"].encode())


def versions_library(s3: S3UnderTest) -> Library:
    """Objects from before versioning, with later versions, without an end, deleted and put again."""
    bucket, client = s3.bucket(), s3.client()
    odd = [f"in/odd/{name}" for name in ODD_NAMES if "\n" not in name]
    for key in ("in/a", *odd):
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two", b"three"):
        client.put_object(Bucket=bucket, Key="in/a", Body=body)
    for key in ("in/b", "in/gone", *odd[:2]):
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
        client.delete_object(Bucket=bucket, Key=key)
    client.put_object(Bucket=bucket, Key="in/b", Body=b"again")
    client.put_object(Bucket=bucket, Key="in/empty", Body=b"")
    client.put_object(Bucket=bucket, Key="other", Body=b"image")
    source = S3Versions(lambda: client, bucket, "in/", Filters(), page_size=10)
    keys = [
        *["in/a"] * 4,
        *["in/b"] * 2,
        "in/gone",
        *[key for key in sorted(odd) for _ in range(1 + (key in odd[:2]))],
    ]
    listed = source.list({})
    place = {tuple(item.cursor.values()): number for number, item in enumerate(listed)}
    return Library(
        source,
        [f"s3://{bucket}/{key}" for key in keys],
        Counter(deleted=4, empty=1),
        lambda cursor: (cursor["after"].encode(), place[cursor["after"], cursor["version"]]),
    )


HANDLES = [f"handle-{number:013d}" for number in range(12)]
TXT = "\ufeff# mine\n\n" + "\r\n".join(HANDLES[:6]) + "\r\n\nnot a handle\n" + "\n".join(HANDLES[6:])
CSV = '\ufeffname,handle\n"a\nb",' + '\n"x, y",'.join(HANDLES) + '\n\n"open\nshort\n'
JSONL = "\n".join(json.dumps({"handle": handle, "é": "ü"}) for handle in HANDLES) + "\n{not JSON\n\n"


def txt_library() -> Library:
    ids = [*map(id_of, HANDLES[:6]), "list.txt:10", *map(id_of, HANDLES[6:])]
    return list_library(TXT, ListFormat.TXT, ids)


def csv_library() -> Library:
    return list_library(CSV, ListFormat.CSV, [*map(id_of, HANDLES), "list.csv:16", "list.csv:17"])


def jsonl_library() -> Library:
    return list_library(JSONL, ListFormat.JSONL, [*map(id_of, HANDLES), "list.jsonl:13"])


def manifest_library() -> Library:
    """Images of every kind, as no single run has them; then what is no row."""
    refs = [
        ImageRef(S3Object("bucket", "a +%41ü.jpg", etag="0" * 32, size=3)),
        ImageRef(LocalFile.at("/photos", b"nature/\xff.jpg", 12, 1_700_000_000_000_000_000)),
        ImageRef(Handle(HANDLES[0], line=3), fresh=True),
        ImageRef(BadLine("handles.csv", 7, "no such column")),
    ]
    context = RowContext("a-run", 0, TagPolicy(), "filestack", "2", "f" * 16)
    failed = Outcome(Status.FAILED, error=Failure("ImageNotFoundError", "missing", "no such column"))
    rows = [build_row(context, 0, index, ref, failed) for index, ref in enumerate(refs)]
    text = b"".join(orjson.dumps(row) + b"\n" for row in rows) + b'\n{"handle": "x"}\n'
    source = ManifestList(lambda: io.BytesIO(text), "manifest.jsonl")
    assert [item.ref for item in source.list({})][:4] == refs
    ids = [*(ref.id for ref in refs), "manifest.jsonl:6"]
    return Library(source, ids, Counter(), lambda cursor: (cursor["offset"], cursor["line"]))


def list_library(text: str, list_format: ListFormat, ids: list[str]) -> Library:
    def opened() -> BinaryIO:
        return io.BytesIO(text.encode())

    source = HandleList(opened, f"list.{list_format}", list_format)
    return Library(source, ids, Counter(), lambda cursor: (cursor["offset"], cursor["line"]))


def id_of(handle: str) -> str:
    return f"filestack:{handle}"


def path_of(cursor: Cursor) -> bytes:
    return unquote_to_bytes(cursor["after"])


@pytest.fixture(scope="module", params=["folder", "s3", "versions", "txt", "csv", "jsonl", "manifest"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    kind = request.param
    if kind == "folder":
        return folder_library(tmp_path_factory.mktemp("library"))
    if kind == "s3":
        return s3_library(request.getfixturevalue("s3_server"))
    if kind == "versions":
        return versions_library(request.getfixturevalue("s3_server"))
    lists = {"txt": txt_library, "csv": csv_library, "jsonl": jsonl_library, "manifest": manifest_library}
    return lists[kind]()


def test_lists_every_image_in_order_and_counts_what_it_passes_over(library: Library) -> None:
    items = list(library.source.list({}))
    assert [item.ref.id for item in items if item.ref] == library.ids
    assert Counter(item.skipped for item in items if not item.ref) == library.skipped
    assert all(item.skipped is None for item in items if item.ref)
    assert {type(item.skipped) for item in items if not item.ref} <= {str}  # counted under keys of JSON


def test_an_unchanged_library_gives_identical_items(library: Library) -> None:
    assert list(library.source.list({})) == list(library.source.list({}))


def test_cursors_ascend_strictly(library: Library) -> None:
    places = [library.order(item.cursor) for item in library.source.list({})]
    assert all(one < other for one, other in pairwise(places))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_continuing_after_any_item_gives_exactly_the_rest(library: Library, data: st.DataObject) -> None:
    items = list(library.source.list({}))
    cut = data.draw(st.integers(0, len(items) - 1))
    cursor = json.loads(json.dumps(items[cut].cursor))
    assert cursor == items[cut].cursor
    rest = list(library.source.list(cursor))
    assert rest == items[cut + 1 :]
    if rest:
        again = data.draw(st.integers(0, len(rest) - 1))
        assert list(library.source.list(rest[again].cursor)) == rest[again + 1 :]


def test_an_abandoned_listing_can_be_taken_up_by_a_new_one(library: Library) -> None:
    listing = library.source.list({})
    begun = [next(listing), next(listing)]
    listing.close()  # type: ignore[attr-defined]  # a generator: what a killed planner leaves behind
    assert begun + list(library.source.list(begun[-1].cursor)) == list(library.source.list({}))


def test_says_in_one_line_what_it_is(library: Library) -> None:
    assert library.source.describe()
    assert "\n" not in library.source.describe()


# --- fifty thousand ---------------------------------------------------------------------------------------


def many_files(root: Path) -> Source:
    """Fifty folders that are one: quick to make and to delete."""
    (root / "one").mkdir()
    for number in range(MANY // 50):
        (root / "one" / f"{number:04}.jpg").write_bytes(b"image")
    (root / "library").mkdir()
    for folder in range(50):
        (root / "library" / f"{folder:02}").symlink_to(root / "one")
    return Folder(os.fsencode(root / "library"), Filters())


def many_objects(query: dict[str, str]) -> tuple[int, str]:
    """A thousand keys after the continuation token, as S3 writes them."""
    first = int(query.get("continuation-token", 0))
    contents = "".join(
        f"<Contents><Key>in/{number:08}.jpg</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f'<ETag>"{number:032x}"</ETag><Size>{number + 1}</Size></Contents>'
        for number in range(first, first + 1000)
    )
    following = first + 1000
    more = f"<IsTruncated>{str(following < MANY).lower()}</IsTruncated>"
    token = f"<NextContinuationToken>{following}</NextContinuationToken>" if following < MANY else ""
    return 200, f"<ListBucketResult><Name>b</Name>{more}{token}{contents}</ListBucketResult>"


def many_versions(query: dict[str, str]) -> tuple[int, str]:
    """A thousand of a single key behind the markers, every other one a delete marker."""
    first = MANY - int(query.get("version-id-marker", MANY))
    entries = "".join(
        f"<{name}><Key>in/a.jpg</Key><VersionId>{MANY - number - 1}</VersionId>"
        f"<IsLatest>{str(not number).lower()}</IsLatest>"
        f"<LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>5</Size></{name}>"
        for number in range(first, first + 1000)
        for name in [("Version", "DeleteMarker")[number % 2]]
    )
    more = f"<IsTruncated>{str(first + 1000 < MANY).lower()}</IsTruncated>"
    return 200, f"<ListVersionsResult><Name>b</Name>{more}{entries}</ListVersionsResult>"


def many_lines() -> BinaryIO:
    packed = gzip.compress(b"".join(b'{"handle": "handle-%013d"}\n' % number for number in range(MANY)))
    return gzip.open(io.BytesIO(packed))  # type: ignore[return-value]  # reads like any binary stream


def peak_bytes(listing: Iterator[Listed]) -> int:
    """Of what listing holds at once, after its first thousand items."""
    for _ in range(1000):
        next(listing)
    tracemalloc.start()
    try:
        assert sum(1 for _ in listing) == MANY - 1000
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "kind",
    ["folder", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("s3", "versions")), "jsonl"],
)
def test_memory_stays_flat_over_fifty_thousand_items(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in {"s3", "versions"}:
        answer, listing = (many_objects, S3Listing) if kind == "s3" else (many_versions, S3Versions)
        with canned_s3(answer) as s3:
            for name, value in s3.environment.items():
                monkeypatch.setenv(name, value)
            client = listing_client(s3.url)
            assert peak_bytes(listing(lambda: client, "b", "in/", Filters()).list({})) < FLAT_BYTES
        return
    source = many_files(tmp_path) if kind == "folder" else HandleList(many_lines, "many", ListFormat.JSONL)
    assert peak_bytes(source.list({})) < FLAT_BYTES
