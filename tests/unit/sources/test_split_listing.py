"""A listing by several threads is the listing of one, whatever the keys look like."""

from __future__ import annotations

import resource
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.s3 import S3UnderTest, canned_s3
from servers.strict_s3 import running_strict_s3

from tagmill.producer.sources.base import Filters, Listed
from tagmill.producer.sources.key_space import place
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.spill import GRAIN, Room, Spill, open_spill
from tagmill.producer.sources.split_listing import MOST_AHEAD, Page, SplitListing
from tagmill.worker.errors import RunError

CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("0129aZ/~ \x01\x7f\ue000\U0010ffff")
KEYS = st.lists(st.text(CHARACTERS, min_size=1, max_size=12), unique=True, max_size=60).map(sorted)
NUMBERED = [f"{number:06d}.jpg" for number in range(0, 4_000, 7)]
FOLDERS = [
    f"20{year}/{month:02d}/{'é' * depth}{name}"
    for year in (1, 9)
    for month in range(12)
    for depth in range(4)
    for name in range(5)
]


class Keys:
    """Pages over some keys; behind `broken` every request fails."""

    def __init__(self, prefix: str, keys: Sequence[str], broken: str | None = None) -> None:
        self.keys = sorted(prefix + key for key in keys)
        self.prefix, self.broken = prefix, broken
        self.started = False

    def fetch(self, behind: str, *, started: bool = True, probe: bool = False) -> Page:
        if self.broken is not None and behind >= self.broken:
            raise RunError("the server is gone")
        self.started |= started
        start = bisect_right(self.keys, behind)
        end = start + (1 if probe else 3)
        return Page([{"Key": key} for key in self.keys[start:end]], end >= len(self.keys))

    def listed(self, workers: int, after: str = "", most_ahead: int = MOST_AHEAD) -> list[str]:
        pages = SplitListing(self.fetch, self.prefix, workers, most_ahead).pages(after)
        return [item["Key"] for page in pages for item in page]


@settings(max_examples=40, deadline=None)
@given(KEYS | st.sampled_from([NUMBERED, FOLDERS]), st.sampled_from(["", "in/", "é"]), st.data())
def test_any_keys_come_in_order_once_and_behind_any_of_them(
    keys: list[str], prefix: str, data: st.DataObject
) -> None:
    library = Keys(prefix, keys)
    for workers, most_ahead in ((1, MOST_AHEAD), (4, 0), (16, MOST_AHEAD)):
        assert library.listed(workers, most_ahead=most_ahead) == library.keys
    if library.keys:
        cut = data.draw(st.integers(0, len(library.keys) - 1))
        assert library.listed(4, library.keys[cut]) == library.keys[cut + 1 :]


def test_a_failure_comes_behind_all_that_lies_before_it() -> None:
    library = Keys("in/", NUMBERED, broken="in/002000.jpg")
    reached = next(place for place, key in enumerate(library.keys) if key >= "in/002000.jpg")
    pages = SplitListing(library.fetch, "in/", 4).pages("")
    seen: list[str] = []
    with pytest.raises(RunError):
        seen.extend(item["Key"] for page in pages for item in page)
    assert library.keys[:reached] == seen[:reached]
    assert len(seen) - reached < 3


def test_no_more_is_listed_ahead_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    library, most = Keys("", NUMBERED), 20 * GRAIN
    put, used, full = Spill.put, [0], threading.Event()

    def noted(spill: Spill, content: bytes) -> tuple[Room, int]:
        kept = put(spill, content)
        used.append(spill.used)
        if spill.used >= most:
            full.set()
        return kept

    monkeypatch.setattr(Spill, "put", noted)
    read: list[str] = []
    for page in SplitListing(library.fetch, "", 8, most).pages(""):
        read += [item["Key"] for item in page]
        assert full.wait(10)
    assert read == library.keys
    assert max(used) <= most + GRAIN


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (GRAIN, hard))
    try:
        with pytest.raises(RunError, match=r"no room for .* \(File too large\): set TMPDIR") as failed:
            Keys("", NUMBERED).listed(8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.code == "disk"


def test_room_is_used_again() -> None:
    with open_spill() as spill:
        for length in (GRAIN, 3 * GRAIN - 1, 5, 2 * GRAIN + 1, GRAIN) * 20:
            content = bytes([length % 251]) * length
            kept = [spill.put(content) for _ in range(3)]
            assert [spill.take(*one) for one in kept] == [content] * 3
            assert spill.used == 0
        assert spill.put(b"x")[0].start < 20 * GRAIN


def test_the_threads_are_gone_when_nobody_reads_on() -> None:
    before = threading.active_count()
    pages = SplitListing(Keys("", NUMBERED).fetch, "", 8).pages("")
    next(pages)
    pages.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


@given(st.text(CHARACTERS, max_size=20), st.none() | st.text(CHARACTERS, max_size=20), st.integers(1, 16))
def test_a_place_is_strictly_between(low: str, high: str | None, part: int) -> None:
    found = place(low, high, "", part, 17)
    if found is not None:
        assert low < found
        assert high is None or found < high
        found.encode()


def items(s3: S3UnderTest, bucket: str, workers: int) -> list[Listed]:
    client = s3.client(connections=workers)
    source = S3Listing(lambda: client, bucket, "in/", Filters(), page_size=7, list_workers=workers)
    whole = list(source.list({}))
    assert list(source.list(whole[len(whole) // 2].cursor)) == whole[len(whole) // 2 + 1 :]
    return whole


def test_a_bucket_gives_the_same_items_to_any_number_of_requests_at_once() -> None:
    with running_strict_s3() as server:
        bucket, client = server.new_bucket(), server.client()
        for number in range(60):
            name = f"{number % 7}/{number:03d}" if number % 3 else f"é+%41 \n{number}"
            client.put_object(Bucket=bucket, Key=f"in/{name}", Body=b"image")
        client.put_object(Bucket=bucket, Key="other", Body=b"image")
        serial, *others = (items(S3UnderTest(server.url), bucket, workers) for workers in (1, 4, 16))
    assert len(serial) == 60
    assert all(one.cursor["after"] < other.cursor["after"] for one, other in pairwise(serial))
    assert others == [serial, serial]


def test_an_answer_that_is_no_page_ends_no_listing_unseen() -> None:
    with canned_s3(lambda _: (200, "<ListBucketResult><Name>b</Name></ListBucketResult>")) as s3:
        client = s3.client(attempts=1)
        with pytest.raises(Exception, match="is not S3"):
            list(S3Listing(lambda: client, "b", "", Filters(), list_workers=4).list({}))
