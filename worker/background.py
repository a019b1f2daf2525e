"""Work on a thread of its own, beside what follows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

Stopped = Callable[[], bool]


class Background:
    """A context manager; leaving it stops the work, and what is done stays done."""

    def __init__(self, work: Callable[[Stopped], object], name: str) -> None:
        self._work = work
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; do not wait."""
        self._stopped.set()

    def end(self) -> None:
        """Ask it to end, and wait until it has; what it raised is not raised."""
        self.stop()
        self._thread.join()

    def join(self) -> None:
        """Wait for its end; raise what it raised."""
        self._thread.join()
        self.raise_error()

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended within that time; raise what it raised."""
        self._thread.join(seconds)
        self.raise_error()
        return not self._thread.is_alive()

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._work(self._stopped.is_set)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the follower raises it
            self.error = error
