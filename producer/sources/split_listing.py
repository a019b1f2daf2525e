"""One listing by several threads: the key space is split where there is work, the order is that of keys.

A thread without work takes the upper part of a segment that another thread is in. Every segment is listed
from its beginning to its end by one thread, so what comes out does not depend on where it was split.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from tagmill.producer.sources.key_space import place, to_come
from tagmill.producer.sources.spill import Room, Spill, open_spill

MOST_AHEAD = 1 << 30  #: bytes of the file
PAGES_LEFT = 3  #: of a segment, for a part of it to be worth the requests
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Item]  #: each with its `Key`, in order
    is_last: bool


class Fetch(Protocol):
    def __call__(self, behind: str, *, started: bool = True, probe: bool = False) -> Page:
        """`started`: something was listed already; `probe`: one item is enough."""
        ...


@dataclass(eq=False, slots=True)
class _Segment:
    """Keys behind `at`, which moves, up to `until` (None: all), which others bring nearer."""

    at: str
    until: str | None
    first: str = ""  #: key that it gave
    following: _Segment | None = None
    done: bool = False
    error: Exception | None = None
    probes: int = 0  #: by threads that look for a place to split it
    pages: int = 0  #: that it gave
    waiting: deque[tuple[Room, int]] = field(default_factory=deque)  #: of these: where in the file, how long

    def is_worth_a_split(self, prefix: str) -> bool:
        """Whether some pages seem to be left of it."""
        if self.pages == 0 or self.until is None:
            return self.until is None
        return to_come(self.first, self.at, self.until, prefix) * self.pages > PAGES_LEFT


class SplitListing:
    """Memory is a page for each thread; what was listed ahead waits in a bounded file in `TMPDIR`."""

    def __init__(self, fetch: Fetch, prefix: str, workers: int, most_ahead: int = MOST_AHEAD) -> None:
        self._fetch, self._prefix, self._workers, self._most_ahead = fetch, prefix, workers, most_ahead

    def pages(self, after: str) -> Iterator[list[Item]]:
        """In key order; raise what a fetch raised when all that lies before has been given."""
        with open_spill() as spill:
            progress = _Progress(spill, _Segment(after, None), self._most_ahead)
            crew = [
                _Lister(progress, self._fetch, self._prefix, number + 1, self._workers + 1)
                for number in range(self._workers)
            ]
            first = threading.Thread(target=crew[0].begin, daemon=True)
            threads = [first, *(threading.Thread(target=one.help_out, daemon=True) for one in crew[1:])]
            for thread in threads:
                thread.start()
            try:
                yield from progress.pages()
            finally:
                progress.stop()
                for thread in threads:
                    thread.join()


class _Progress:
    """What the threads share."""

    def __init__(self, spill: Spill, first: _Segment, most_ahead: int) -> None:
        self.changed = threading.Condition()
        self.stopped = False
        self.first = first
        self.running = [first]
        self._spill, self._most_ahead = spill, most_ahead
        self._reading = first

    def pages(self) -> Iterator[list[Item]]:
        segment: _Segment | None = self.first
        while segment is not None:
            while (content := self._next(segment)) is not None:
                yield orjson.loads(content)
            if segment.error is not None:
                raise segment.error
            segment = segment.following

    def _next(self, segment: _Segment) -> bytes | None:
        with self.changed:
            self._reading = segment
            self.changed.notify_all()
            self.changed.wait_for(lambda: segment.waiting or segment.done)
            if not segment.waiting:
                return None
            return self._spill.take(*segment.waiting.popleft())

    def _has_room(self, segment: _Segment) -> bool:
        """Always for the page that is read next: nothing else would let the others go on."""
        is_next = segment is self._reading and not segment.waiting
        return is_next or self._spill.used < self._most_ahead

    def keep(self, segment: _Segment, page: Page) -> None:
        """Take what the segment still reaches to, once there is room for it."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or self._has_room(segment))
            until = segment.until
            items = [item for item in page.items if until is None or item["Key"] <= until]
            if items:
                segment.waiting.append(self._spill.put(orjson.dumps(items)))
                segment.first = segment.first or items[0]["Key"]
                segment.at = items[-1]["Key"]
                segment.pages += 1
            if page.is_last or len(items) < len(page.items):
                self._end_of(segment)
            self.changed.notify_all()

    def fail(self, segment: _Segment, error: Exception) -> None:
        with self.changed:
            segment.error = error
            self._end_of(segment)
            self.changed.notify_all()

    def _end_of(self, segment: _Segment) -> None:
        segment.done = True
        self.running.remove(segment)

    def split(self, segment: _Segment, middle: str, page: Page) -> _Segment | None:
        """Return the part behind `middle`; None where it is empty by `page`, or gone by now."""
        with self.changed:
            until = segment.until
            if segment.done or middle <= segment.at or (until is not None and middle >= until):
                return None
            segment.until = middle
            self.changed.notify_all()
            if not page.items or (until is not None and page.items[0]["Key"] > until):
                return None
            taken = segment.following = _Segment(middle, until, following=segment.following)
            self.running.append(taken)
            return taken

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Lister:
    """One thread; it looks for splits at `part / of` of a segment, where others do not."""

    progress: _Progress
    fetch: Fetch
    prefix: str
    part: int
    of: int

    def begin(self) -> None:
        first = self.progress.first
        self._finish(first, started=first.at != "")
        self.help_out()

    def help_out(self) -> None:
        """Do so until all is listed, or a request fails: whoever lists there meets that, too."""
        while (segment := self._choose()) is not None:
            middle = self._place(segment)
            try:
                page = self.fetch(middle, probe=True) if middle is not None else None
            except Exception:  # noqa: BLE001 - see above
                return
            finally:
                with self.progress.changed:
                    segment.probes -= 1
            taken = self.progress.split(segment, middle, page) if middle and page else None
            if taken is not None:
                self._finish(taken, started=True)

    def _finish(self, segment: _Segment, *, started: bool) -> None:
        try:
            while not segment.done and not self.progress.stopped:
                self.progress.keep(segment, self.fetch(segment.at, started=started))
                started = True
        except Exception as error:  # noqa: BLE001 - raised where the segment is read
            self.progress.fail(segment, error)

    def _choose(self) -> _Segment | None:
        """Return the segment that the fewest look at; wait while none can be split, None at the end."""
        with self.progress.changed:
            while self.progress.running and not self.progress.stopped:
                splittable = [one for one in self.progress.running if self._place(one) is not None]
                if splittable:
                    chosen = min(splittable, key=lambda one: one.probes)
                    chosen.probes += 1
                    return chosen
                self.progress.changed.wait()
            return None

    def _place(self, segment: _Segment) -> str | None:
        if not segment.is_worth_a_split(self.prefix):
            return None
        low, high = segment.at, segment.until
        found = place(low, high, self.prefix, self.part, self.of)
        return found or place(low, high, self.prefix, 1, 2)
