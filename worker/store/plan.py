"""The plan of one pass: shards of image references in listing order, and the mark that it is whole."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from tagmill.worker.counts import Counts
from tagmill.worker.models import Chunk, ImageRef, Json, Place
from tagmill.worker.rows import ref_of
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.duplicates import Duplicates
from tagmill.worker.store.layout import pass_folder, shard_name

_SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, slots=True)
class Planned:
    """One image of a plan; in a later pass with the row that stands for it so far.

    In a first pass, too, where an earlier run's answer is applied once more.
    """

    ref: ImageRef
    row: Json | None = None
    place: Place | None = field(default=None, compare=False)  #: None: it is only being planned
    duplicate_of: str | None = None  #: id of the image that has its content, and is asked for both

    def to_json(self) -> Json:
        """A plan line."""
        return self.ref.to_json() if self.row is None else self.row

    @classmethod
    def from_json(cls, line: Json, place: Place, duplicate_of: str | None = None) -> Planned:
        """`place`: in this pass's plan."""
        if "schema" in line:
            return cls(ref_of(line), line, (line["shard"], line["index"]))
        return cls(ImageRef.from_json(line), None, place, duplicate_of)


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """First line of a plan shard."""

    shard: int
    count: int
    first: int  #: images planned before this shard
    chunk_size: int
    cursor: Json  #: where the source continues after what was listed so far
    listed: int  #: things the source came upon so far
    skipped: dict[str, int] = field(default_factory=dict)  #: so far, by reason
    replaced: Json | None = None  #: counts of all rows planned so far that this pass replaces
    deduplicated: bool = False  #: which images have the content of others is said beside the plan
    found: dict[str, int] = field(default_factory=dict)  #: so far, over a known source: images by why
    last: bool = False  #: empty, and nothing follows: the end of a plan that several writers append to

    def chunks(self, run_id: str, pass_no: int) -> Iterator[Chunk]:
        for offset in range(0, self.count, self.chunk_size):
            yield Chunk(run_id, pass_no, self.shard, offset, min(self.chunk_size, self.count - offset))


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """`plan.json`: planning is finished."""

    shards: int
    images: int
    listed: int
    skipped: dict[str, int]
    closed: bool = False  #: before the source was read to its end: no shard may follow
    #: `images` that have the content of another, and their `bytes`; None: nobody looked.
    duplicates: Json | None = None
    #: Over a source that earlier runs knew: images by why they are planned, or are not.
    found: dict[str, int] = field(default_factory=dict)

    def covers(self, shard: int) -> bool:
        """Whether it counts, or was written by a producer while the plan was being closed."""
        return shard < self.shards or not self.closed


class Plan:
    """Safe to use from several threads; shards never change, so the last few are kept in memory."""

    def __init__(self, files: Files, run_id: str, pass_no: int) -> None:
        self._files = files
        self.run_id, self.pass_no = run_id, pass_no
        self._folder = pass_folder(run_id, pass_no)
        self._lines = functools.lru_cache(maxsize=2)(self._read_lines)
        self._leaders = functools.lru_cache(maxsize=2)(Duplicates(files, run_id).leaders)
        self._newest = -1  #: shard that was the last when somebody asked
        self._summary: PlanSummary | None = None  #: once planning is finished

    def write(self, header: ShardHeader, images: Sequence[Planned]) -> bool:
        """Return False when another producer wrote this shard first: its content counts. Or none may come."""
        whole = self.summary()
        if whole is not None and whole.closed:
            return False
        data = jsonl.pack([asdict(header), *(image.to_json() for image in images)])
        return self._files.create(self._name(header.shard), data)

    def header(self, shard: int) -> ShardHeader:
        return ShardHeader(**orjson.loads(self._lines(shard)[0]))

    def shards(self, after: int = -1) -> list[int]:
        """Numbers of the shards planned so far beyond `after`, ascending."""
        return self.look(after)[1]

    def look(self, after: int = -1) -> tuple[PlanSummary | None, list[int]]:
        """Return the summary, once planning is finished, and the shards beyond `after`."""
        whole = self.summary()  # before the listing: what it covers is then surely listed
        beyond = shard_name(after) + _SUFFIX if after >= 0 else ""
        found = (
            int(name.removesuffix(_SUFFIX)) for name in self._files.names(f"{self._folder}/plan", beyond)
        )
        # A listing may show what was written while it went on, and not what was written just before that.
        in_turn = itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(found, after + 1))
        return whole, [shard for _, shard in in_turn if whole is None or whole.covers(shard)]

    def lines(self, shard: int) -> list[bytes]:
        """The images of a shard as JSON."""
        return self._lines(shard)[1:]

    def images(self, chunk: Chunk) -> list[Planned]:
        lines = self.lines(chunk.shard)[chunk.offset : chunk.offset + chunk.count]
        leaders = self._leaders(chunk.shard) if self.header(chunk.shard).deduplicated else {}
        return [
            Planned.from_json(orjson.loads(line), (chunk.shard, index), leaders.get(index))
            for index, line in enumerate(lines, chunk.offset)
        ]

    def finish(self, summary: PlanSummary) -> None:
        self._files.create(f"{self._folder}/plan.json", orjson.dumps(asdict(summary)))

    def close(self) -> None:
        """Finish planning where it stands, for good."""
        newest = self.newest()
        listed, skipped, found = (newest.listed, newest.skipped, newest.found) if newest else (0, {}, {})
        last = newest.shard if newest else -1
        images = self._planned_up_to(last)
        self.finish(PlanSummary(last + 1, images, listed, skipped, closed=True, found=found))

    def summary(self) -> PlanSummary | None:
        """None while planning goes on."""
        if self._summary is None:
            with contextlib.suppress(FileNotFoundError):
                value: dict[str, Any] = orjson.loads(self._files.read(f"{self._folder}/plan.json"))
                self._summary = PlanSummary(**value)
        return self._summary

    def planned(self) -> int:
        """Images planned so far; asked again, it looks at what is new only."""
        last = self._last() if self._summary is None else -1
        return self._summary.images if self._summary is not None else self._planned_up_to(last)

    def found(self) -> dict[str, int]:
        """Over a known source: images by why they are planned, or not, as of the last look at the plan."""
        if self._summary is not None:
            return self._summary.found
        return self.header(self._newest).found if self._newest >= 0 else {}

    def replaced(self) -> Counts:
        """Counts of the rows planned so far that this pass replaces."""
        newest = self.newest()
        return Counts.from_json(newest.replaced) if newest and newest.replaced else Counts()

    def newest(self) -> ShardHeader | None:
        """Return the header of the last shard planned so far."""
        last = self._last()
        return self.header(last) if last >= 0 else None

    def _last(self) -> int:
        """Return the number of the last shard planned so far; -1: there is none."""
        whole, fresh = self.look(after=self._newest)
        self._newest = max(fresh, default=self._newest)
        return self._newest if whole is None or whole.covers(self._newest) else whole.shards - 1

    def _planned_up_to(self, shard: int) -> int:
        header = self.header(shard) if shard >= 0 else None
        return header.first + header.count if header else 0

    def _name(self, shard: int) -> str:
        return f"{self._folder}/plan/{shard_name(shard)}{_SUFFIX}"

    def _read_lines(self, shard: int) -> list[bytes]:
        return jsonl.unpack_lines(self._files.read(self._name(shard)))
