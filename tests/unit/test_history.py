"""Which row of an earlier run is about the place that an image is written to."""

from __future__ import annotations

import pytest
from fakes.files import MemoryFiles
from fakes.rows import CONTEXT, finished_run
from fakes.runs import RUN, TAGS

from tagmill.worker.history import History
from tagmill.worker.models import ImageRef, Outcome, S3Object, Status
from tagmill.worker.rows import build_row

AT = "2026-11-22T00:00:00Z"


def version(number: int, *, is_latest: bool | None) -> ImageRef:
    return ImageRef(S3Object("b", "a.jpg", f"e{number}", 5, None, f"v{number}", is_latest))


PLAIN = ImageRef(S3Object("b", "a.jpg", "e3", 5))
VERSIONS = [version(3, is_latest=True), version(2, is_latest=False), version(1, is_latest=False)]


@pytest.mark.parametrize(
    ("earlier", "now", "found"),
    [
        (VERSIONS, version(4, is_latest=True), version(3, is_latest=True)),
        (VERSIONS, PLAIN, version(3, is_latest=True)),
        (VERSIONS, version(3, is_latest=False), version(3, is_latest=True)),
        (VERSIONS, version(1, is_latest=False), version(1, is_latest=False)),
        (VERSIONS, version(4, is_latest=False), None),
        ([PLAIN], version(3, is_latest=False), PLAIN),
        (VERSIONS[1:], PLAIN, None),
    ],
)
async def test_an_earlier_version_is_a_place_of_its_own_and_the_latest_one_is_the_object(
    earlier: list[ImageRef], now: ImageRef, found: ImageRef | None
) -> None:
    files, tagged = MemoryFiles(), Outcome(Status.TAGGED, TAGS, tagged_at=AT)
    finished_run(files, [build_row(CONTEXT, 0, 0, ref, tagged) for ref in earlier])
    said = await History(files).tagged(RUN, now)
    assert (said and said.ref) == found
