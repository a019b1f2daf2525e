"""Ctrl-C and TERM: the first is a wish, the second an end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tagmill.producer.display import Print


@dataclass(slots=True)
class Interrupt:
    """What Ctrl-C asks for; a second one does not reach us."""

    asked: bool = False


@contextlib.contextmanager
def interrupts(
    print_line: Print, said: str, on_second: Callable[[], None] = lambda: None
) -> Iterator[Interrupt]:
    """Answer the first with a line, raise `KeyboardInterrupt` at the second."""
    interrupt = Interrupt()

    def hear(_signal: int, _frame: object) -> None:
        if interrupt.asked:
            on_second()
            raise KeyboardInterrupt
        interrupt.asked = True
        print_line(said)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
