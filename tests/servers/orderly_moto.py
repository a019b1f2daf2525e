"""Moto's server, whose queues several threads may use: by itself one message goes to two of them, or is lost.

Run as a program; it prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

LOOK_SECONDS = 0.05
_one_at_a_time = threading.RLock()


def alone(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _one_at_a_time:
            return method(*args, **kwargs)

    return locked


def polling(look: Callable[..., Any]) -> Callable[..., Any]:
    """Wait without the lock: `look` with no time to wait is one look at the queue."""

    @functools.wraps(look)
    def receive(backend: SQSBackend, name: str, count: int, wait_seconds: int, *others: Any) -> Any:
        end = time.monotonic() + wait_seconds
        while not (found := look(backend, name, count, 0, *others)) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        return found

    return receive


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in ("send_message", "delete_message", "receive_message"):
        setattr(SQSBackend, name, alone(getattr(SQSBackend, name)))
    SQSBackend.receive_message = polling(SQSBackend.receive_message)  # type: ignore[method-assign] # see above
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
