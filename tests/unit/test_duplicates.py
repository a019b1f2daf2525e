from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, planned
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.duplicates import file_digest, find_duplicates
from tagmill.worker.errors import RunError
from tagmill.worker.models import Handle, ImageRef, Json, LocalFile, Place, S3Object, Source
from tagmill.worker.store.duplicates import Duplicates, Member
from tagmill.worker.store.plan import Plan, ShardHeader
from tagmill.worker.store.scratch import scratch_database

ETAGS = [hashlib.md5(bytes([n]), usedforsecurity=False).hexdigest() for n in range(4)]
OBJECTS = st.builds(
    lambda etag, size: (etag, size),
    st.sampled_from([*ETAGS, ETAGS[0].upper(), f"{ETAGS[1]}-2", "0" * 32, None]),
    st.sampled_from([1, 2, None]),
)


def plan_of(files: MemoryFiles, sources: list[Source], shard_size: int = 7) -> Plan:
    plan = Plan(files, RUN, 0)
    for shard in itertools.count():
        images = sources[shard * shard_size : (shard + 1) * shard_size]
        if not images:
            return plan
        header = ShardHeader(
            shard, len(images), shard * shard_size, 5, {}, (shard + 1) * shard_size, deduplicated=True
        )
        plan.write(header, planned(map(ImageRef, images)))
    raise AssertionError


def found_in(sources: list[Source], shard_size: int = 7) -> tuple[Json | None, dict[Place, Member]]:
    files = MemoryFiles()
    duplicates = Duplicates(files, RUN)
    counted = find_duplicates(plan_of(files, sources, shard_size), duplicates, lambda: False)
    members = list(duplicates.members())
    assert [member.place for member in members] == sorted(member.place for member in members)
    return counted, {member.place: member for member in members}


@given(st.lists(OBJECTS, max_size=60), st.integers(1, 12))
@settings(deadline=None)
def test_groups_are_those_of_a_dictionary(
    objects: list[tuple[str | None, int | None]], shard_size: int
) -> None:
    sources: list[Source] = [S3Object("b", f"k{n}", etag, size) for n, (etag, size) in enumerate(objects)]
    groups: dict[tuple[str, int], list[int]] = {}
    for number, (etag, size) in enumerate(objects):
        if etag and "-" not in etag and set(etag) != {"0"} and size is not None:
            groups.setdefault((etag.lower(), size), []).append(number)
    expected = {
        divmod(number, shard_size): Member(
            divmod(number, shard_size), divmod(group[0], shard_size), f"s3://b/k{group[0]}"
        )
        for group in groups.values()
        if len(group) > 1
        for number in group
    }
    followers = [number for group in groups.values() for number in group[1:]]

    counted, members = found_in(sources, shard_size)

    assert members == expected
    assert counted == {
        "images": len(followers),
        "bytes": sum(objects[number][1] or 0 for number in followers),
    }


def a_file(folder: Path, name: str, content: bytes) -> LocalFile:
    (folder / name).write_bytes(content)
    return planned_file(folder, name)


def planned_file(folder: Path, name: str) -> LocalFile:
    status = os.stat(folder / name)
    return LocalFile.at(str(folder), os.fsencode(name), status.st_size, status.st_mtime_ns)


def test_files_are_compared_by_their_content(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"one", b"three", b"two", b"one"]
    sources: list[Source] = [a_file(tmp_path, f"{n}.jpg", text) for n, text in enumerate(contents)]
    counted, members = found_in(sources)
    assert {place[1]: member.leader[1] for place, member in members.items()} == {0: 0, 1: 1, 2: 0, 4: 1, 5: 0}
    assert members[0, 4].leader_id == sources[1].id
    assert counted == {"images": 3, "bytes": 9}


def test_a_file_that_changed_since_it_was_planned_shares_nothing(tmp_path: Path) -> None:
    sources: list[Source] = [a_file(tmp_path, name, b"same") for name in ("a", "b", "c")]
    os.utime(tmp_path / "a", ns=(0, 1))
    (tmp_path / "c").unlink()
    assert found_in(sources) == ({"images": 0, "bytes": 0}, {})


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = planned_file(tmp_path, "pipe")
    assert file_digest(file.absolute, file.size, file.mtime_ns) is None


def test_objects_files_and_handles_have_nothing_in_common(tmp_path: Path) -> None:
    handles: list[Source] = [Handle("same"), Handle("same")]
    etag = hashlib.md5(b"one", usedforsecurity=False).hexdigest()
    mixed: list[Source] = [S3Object("b", "k", etag, 3), a_file(tmp_path, "a", b"one"), *handles]
    assert found_in(mixed)[1] == {}


@pytest.mark.parametrize("looks", range(6))
def test_stopped_it_keeps_nothing(tmp_path: Path, looks: int) -> None:
    sources: list[Source] = [a_file(tmp_path, name, b"same") for name in "abcd"]
    files, goes_on = MemoryFiles(), iter([False] * looks)
    plan = plan_of(files, sources)
    assert find_duplicates(plan, Duplicates(files, RUN), lambda: next(goes_on, True)) is None
    assert not any("duplicates" in name for name in files.contents)


def test_what_is_kept_tells_followers_their_leaders() -> None:
    files = MemoryFiles()
    duplicates = Duplicates(files, RUN)
    members = [Member((2, 1), (0, 5), "file:///a"), Member((2, 3), (2, 3), "file:///b")]
    duplicates.write(2, members)
    assert duplicates.leaders(2) == {1: "file:///a"}
    assert duplicates.leaders(1) == {}
    assert list(duplicates.members()) == members


def test_the_first_writer_of_a_shard_counts() -> None:
    duplicates = Duplicates(MemoryFiles(), RUN)
    duplicates.write(0, [Member((0, 1), (0, 0), "first")])
    duplicates.write(0, [Member((0, 2), (0, 0), "second")])
    assert duplicates.leaders(0) == {1: "first"}


def test_a_full_disk_is_one_line() -> None:
    def fill() -> None:
        with scratch_database("CREATE TABLE t (x BLOB);") as database:
            database.execute("PRAGMA max_page_count = 10")
            database.executemany("INSERT INTO t VALUES (zeroblob(?))", [(4096,)] * 100)

    with pytest.raises(RunError, match="disk is full; set TMPDIR"):
        fill()
