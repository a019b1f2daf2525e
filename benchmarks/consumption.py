"""What processes use: CPU time and memory of whole trees, the most that was seen of anything."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

import psutil

LOOK_SECONDS = 0.2
MB = 2**20


class Tree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        """Children that ended are in their parent's account."""
        return sum(self._each(lambda process: sum(process.cpu_times()[:4])))

    def resident_mb(self) -> float:
        """Pages that processes share count for each."""
        return sum(self._each(lambda process: process.memory_info().rss)) / MB

    def _each(self, figure: Callable[[psutil.Process], float]) -> Iterator[float]:
        """Nothing for a process that has just ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [self._root, *self._root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield figure(process)


@contextlib.contextmanager
def peaks(probes: Mapping[str, Callable[[], float]]) -> Iterator[dict[str, float]]:
    """The greatest value of each probe within the block, looked at five times a second."""
    found = {name: probe() for name, probe in probes.items()}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            for name, probe in probes.items():
                found[name] = max(found[name], probe())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
