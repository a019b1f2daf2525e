"""Moto's server, in order: queues that several threads may use, and versions listed as S3 lists them.

By itself one message goes to two threads, or is lost, and delete markers come behind all versions of a page.
Run as a program; it prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from moto.s3.models import FakeDeleteMarker, S3Backend
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

LOOK_SECONDS = 0.05
_one_at_a_time = threading.RLock()
_page = threading.local()  #: of versions, that a thread answers with
_ENTRY = re.compile(r"<Version>.*?</Version>", re.DOTALL)
_MARKER = re.compile(r"<DeleteMarker>.*?</DeleteMarker>", re.DOTALL)


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


def noting_order(look: Callable[..., Any]) -> Callable[..., Any]:
    """Note which of a page of versions are delete markers, the newest of each key first."""

    @functools.wraps(look)
    def list_versions(*args: Any, **kwargs: Any) -> Any:
        versions, prefixes, markers, *next_ones = look(*args, **kwargs)
        both = sorted([*versions, *markers], key=lambda one: (one.name, -one.last_modified.timestamp()))
        _page.markers = [isinstance(one, FakeDeleteMarker) for one in both]
        return versions, prefixes, markers, *next_ones

    return list_versions


def in_order(answer: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(answer)
    def list_versions(response: S3Response) -> Any:
        status, headers, body = answer(response)
        found = [_ENTRY.findall(body), _MARKER.findall(body)]
        left = [iter(entries) for entries in found]
        mixed = "".join(next(left[is_marker]) for is_marker in _page.markers)
        bare = _MARKER.sub("", _ENTRY.sub("", body))
        return status, headers, bare.replace("</ListVersionsResult>", f"{mixed}</ListVersionsResult>")

    return list_versions


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    S3Backend.list_object_versions = noting_order(S3Backend.list_object_versions)  # type: ignore[method-assign] # see above
    S3Response.list_object_versions = in_order(S3Response.list_object_versions)  # type: ignore[method-assign] # as above
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
