"""What sources looked like when runs over them came to their end, in key order: `state/<source>/<n>/`."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from tagmill.worker.known import Known, key_of
from tagmill.worker.models import Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import STATES, shard_name, state_folder

BLOCK = 10_000  #: images in a file
NO_STATE = 0  #: numbers begin with 1
_SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, slots=True)
class Claim:
    """One number, which only its claimer's state may have: `claim.json`."""

    number: int
    run: str
    pass_no: int
    base: int  #: the newest whole state when it was claimed, which this one revises


class State:
    """One number's files: blocks of lines, and `state.json`, written last, by which it counts."""

    def __init__(self, files: Files, source: str, number: int) -> None:
        self._files, self.number = files, number
        self._folder = state_folder(source, number)

    def whole(self) -> bool:
        return self._files.exists(f"{self._folder}/state.json")

    def mark(self) -> Json:
        """Raise FileNotFoundError before it is whole."""
        value: Json = orjson.loads(self._files.read(f"{self._folder}/state.json"))
        return value

    def known(self, after: bytes = b"") -> Iterator[Known]:
        """Yield what is known of the images beyond that key. Memory is one block."""
        for block, last in enumerate(self.mark()["last"] if self.number else []):
            if key_of(last) > after:
                lines = jsonl.unpack_lines(self._files.read(self._name(block)))
                found = map(Known.from_line, lines)
                yield from itertools.dropwhile(lambda known: known.key <= after, found) if after else found

    def write(self, known: Iterable[Known], facts: Json) -> None:
        """Keep `facts` in the mark, with the number of images and in which runs their answers are."""
        left, runs, images = iter(known), Counter[str](), 0
        last: list[str] = []
        while block := list(itertools.islice(left, BLOCK)):
            self._files.create(self._name(len(last)), jsonl.pack_lines(one.to_line() for one in block))
            last.append(block[-1].id)
            images += len(block)
            runs.update(one.run for one in block if one.place is not None)
        mark = {**facts, "images": images, "runs": dict(sorted(runs.items())), "last": last}
        self._files.create(f"{self._folder}/state.json", orjson.dumps(mark))

    def _name(self, block: int) -> str:
        return f"{self._folder}/{shard_name(block)}{_SUFFIX}"


def known_sources(files: Files) -> Iterator[str]:
    """Names of the sources that have states."""
    return files.folders(STATES)


class States:
    """Those of one source."""

    def __init__(self, files: Files, source: str) -> None:
        self._files, self._source = files, source

    def state(self, number: int) -> State:
        return State(self._files, self._source, number)

    def numbers(self) -> list[int]:
        """Newest first, whole or not."""
        return sorted(map(int, self._files.folders(f"{STATES}/{self._source}")), reverse=True)

    def newest(self) -> int:
        """Return the number of the newest whole state; `NO_STATE`: there is none."""
        return next((number for number in self.numbers() if self.state(number).whole()), NO_STATE)

    def claimed(self, run: str, pass_no: int, after: int) -> Claim | None:
        """Return the newest claim of that pass beyond the number `after`."""
        claims = (self._claim(number) for number in self.numbers() if number > after)
        return next(
            (claim for claim in claims if claim and (claim.run, claim.pass_no) == (run, pass_no)), None
        )

    def claim(self, run: str, pass_no: int) -> Claim:
        """Take the next free number."""
        while True:
            base = self.newest()
            number = max(self.numbers(), default=NO_STATE) + 1
            value = orjson.dumps({"run": run, "pass_no": pass_no, "base": base})
            if self._files.create(self._claim_name(number), value):
                return Claim(number, run, pass_no, base)

    def _claim(self, number: int) -> Claim | None:
        with contextlib.suppress(FileNotFoundError):
            return Claim(number, **orjson.loads(self._files.read(self._claim_name(number))))
        return None

    def _claim_name(self, number: int) -> str:
        return f"{state_folder(self._source, number)}/claim.json"
