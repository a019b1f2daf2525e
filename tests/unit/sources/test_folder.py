from __future__ import annotations

import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.sources.base import Filters, Listed
from tagmill.producer.sources.folder import Folder
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.models import LocalFile

NOBODY = 65534


def make(root: Path, *names: str, content: bytes = b"image") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def listing(root: Path, filters: Filters | None = None, after: str = "") -> list[Listed]:
    return list(Folder(os.fsencode(root), filters or Filters()).list({"after": after} if after else {}))


def planned(root: Path, filters: Filters | None = None) -> list[str]:
    return [item.ref.source.path for item in listing(root, filters) if item.ref]  # type: ignore[union-attr]  # a folder lists files only


def skipped(root: Path, filters: Filters | None = None) -> dict[str, str | None]:
    """Relative path -> why it was passed over."""
    return {item.cursor["after"]: item.skipped for item in listing(root, filters) if not item.ref}


def test_paths_come_in_the_byte_order_of_the_whole_relative_path(tmp_path: Path) -> None:
    make(tmp_path, "a/b", "a.b", "a0", "a/c/d", "a-b", "A", "é", "z")
    assert planned(tmp_path) == ["A", "a-b", "a.b", "a/b", "a/c/d", "a0", "z", "é"]


def test_a_file_is_listed_with_its_facts(tmp_path: Path) -> None:
    make(tmp_path, "sub/ä b.jpg", content=b"12345")
    os.utime(tmp_path / "sub/ä b.jpg", ns=(1, 1_700_000_000_123_456_789))
    [item] = listing(tmp_path)
    assert item.ref
    assert item.ref.source == LocalFile(
        location=f"file://{quote_from_bytes(os.fsencode(tmp_path))}/sub/%C3%A4%20b.jpg",
        path="sub/ä b.jpg",
        size=5,
        mtime_ns=1_700_000_000_123_456_789,
    )


def test_a_name_of_any_bytes_survives_to_be_opened(tmp_path: Path) -> None:
    name = bytes(set(range(1, 256)) - {ord("/")})[:200]
    path = os.path.join(os.fsencode(tmp_path), b"x" + name)
    with open(path, "wb") as file:
        file.write(b"image")
    [item] = listing(tmp_path)
    assert item.ref
    assert isinstance(item.ref.source, LocalFile)
    assert item.ref.source.absolute == path


def test_our_own_sidecars_are_passed_over_whatever_the_extensions(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "a.jpg.tags.json", "sub/b.json")
    assert planned(tmp_path) == ["a.jpg", "sub/b.json"]
    assert skipped(tmp_path) == {"a.jpg.tags.json": "sidecar"}


def test_extensions_are_compared_without_case(tmp_path: Path) -> None:
    make(tmp_path, "a.JPG", "b.jpeg", "c.txt", "jpg", "no.jpg/d")
    filters = Filters(extensions=("jpg", "jpeg"))
    assert planned(tmp_path, filters) == ["a.JPG", "b.jpeg"]
    assert skipped(tmp_path, filters) == {"c.txt": "extension", "jpg": "extension", "no.jpg/d": "extension"}


def test_globs_sizes_and_times_filter(tmp_path: Path) -> None:
    make(tmp_path, "keep/a.jpg", "keep/thumb/a.jpg", "other/a.jpg", content=b"x" * 100)
    make(tmp_path, "keep/small.jpg", content=b"x")
    make(tmp_path, "keep/large.jpg", content=b"x" * 1000)
    make(tmp_path, "keep/old.jpg", content=b"x" * 100)
    make(tmp_path, "keep/empty.jpg", content=b"")
    os.utime(tmp_path / "keep/old.jpg", (0, 0))
    filters = Filters(
        include=("keep/**",), exclude=("thumb/",), min_size=10, max_size=100, since="2001-01-01T00:00:00Z"
    )
    assert planned(tmp_path, filters) == ["keep/a.jpg"]
    assert skipped(tmp_path, filters) == {
        "keep/empty.jpg": "empty",
        "keep/large.jpg": "size",
        "keep/old.jpg": "older",
        "keep/small.jpg": "size",
        "keep/thumb/a.jpg": "excluded",
        "other/a.jpg": "excluded",
    }


def test_hidden_files_and_folders_are_passed_over_and_hidden_folders_not_entered(tmp_path: Path) -> None:
    make(tmp_path, ".git/objects/a.jpg", "._a.jpg", "a.jpg")
    assert planned(tmp_path) == ["a.jpg"]
    assert skipped(tmp_path) == {"._a.jpg": "hidden", ".git/": "hidden"}


def test_symbolic_links_are_followed_and_loops_cut(tmp_path: Path) -> None:
    make(tmp_path, "library/real/a.jpg", "elsewhere/b.jpg")
    library = tmp_path / "library"
    (library / "file.jpg").symlink_to("real/a.jpg")
    (library / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(library)
    (library / "real" / "up").symlink_to("..")
    (library / "itself.jpg").symlink_to("itself.jpg")
    assert planned(library) == ["file.jpg", "linked/b.jpg", "real/a.jpg"]
    assert skipped(library) == {"itself.jpg": "unreadable", "linked/back/": "loop", "real/up/": "loop"}


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{short}/socket.jpg")
        (tmp_path / "linked").symlink_to(short)
        assert skipped(tmp_path) == {"linked/socket.jpg": "special", "pipe.jpg": "special"}


def test_what_vanishes_while_it_is_listed_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg", "c/d.jpg", "e.jpg")
    items = Folder(os.fsencode(tmp_path), Filters()).list({})
    assert next(items).ref
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c/d.jpg").unlink()
    (tmp_path / "c").rmdir()
    assert [item.skipped for item in items] == ["unreadable", "unreadable", None]


@contextmanager
def without_privileges() -> Iterator[None]:
    """Tests may run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_counted_and_stops_nothing() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        make(root, "a.jpg", "locked/b.jpg", "secret.jpg", "z.jpg")
        (root / "locked").chmod(0)
        (root / "secret.jpg").chmod(0)
        with without_privileges():
            assert planned(root) == ["a.jpg", "z.jpg"]
            assert skipped(root) == {"locked/": "unreadable", "secret.jpg": "unreadable"}
            with pytest.raises(ConfigError, match="cannot read"):
                listing(root / "locked")
        (root / "locked").chmod(0o755)


def test_a_single_file_is_a_library_of_one(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg")
    [item] = listing(tmp_path / "b.jpg")
    assert item.ref
    assert item.ref.id == f"file://{tmp_path}/b.jpg"
    assert listing(tmp_path / "b.jpg", after=item.cursor["after"]) == []


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder or file"):
        listing(tmp_path / "nowhere")


def test_continuing_enters_no_folder_that_is_done(tmp_path: Path) -> None:
    make(tmp_path, "done/a.jpg", "half/a.jpg", "half/b.jpg", "next/a.jpg")
    (tmp_path / "done" / "a.jpg").unlink()
    (tmp_path / "done").rmdir()
    (tmp_path / "done").symlink_to(tmp_path / "done")  # would be counted if it were looked at
    assert [item.cursor["after"] for item in listing(tmp_path, after="half/a.jpg")] == [
        "half/b.jpg",
        "next/a.jpg",
    ]


def test_a_folder_deeper_than_paths_may_be_long_is_counted(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 250
    for _ in range(18):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert Counter(skipped(tmp_path).values()) == Counter(unreadable=1)


NAMES = st.binary(min_size=1, max_size=3).filter(lambda name: not {0, 47} & set(name) and name[0] != 46)
TREES = st.recursive(st.none(), lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=12)


def build(path: bytes, tree: dict[bytes, object]) -> Iterator[bytes]:
    for name, below in tree.items():
        child = os.path.join(path, name)
        if isinstance(below, dict):
            os.mkdir(child)
            yield from build(child, below)
        else:
            with open(child, "wb") as file:
                file.write(b"image")
            yield child


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_any_tree_is_listed_whole_in_order_and_after_every_cursor(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as root:
        files = sorted(build(os.fsencode(root), tree))
        items = list(Folder(os.fsencode(root), Filters()).list({}))
        assert [unquote_to_bytes(item.cursor["after"]) for item in items] == [
            os.path.relpath(file, os.fsencode(root)) for file in files
        ]
        for position, item in enumerate(items):
            assert list(Folder(os.fsencode(root), Filters()).list(item.cursor)) == items[position + 1 :]
