"""What faults look like: replies that come instead of an answer, and odd data in one."""

from __future__ import annotations

import copy
import json
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tagmill.sandbox.faults import ODD_DATA, TRIMMED, Fault
from tagmill.sandbox.replies import (
    ERROR,
    JSON,
    Reply,
    invalid_application,
    invalid_parameter,
    json_reply,
    not_found,
    text_reply,
    traced_reply,
    unreadable,
    unsupported,
)

BOMB_BYTES = 64 * 2**20  #: what the gzip bomb unpacks to
_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Please wait.</body></html>\n"
_MANY = 400
_LONG = 3_000  #: characters

TagSets = dict[str, Any]


def throttle_reply(status: int, limit: float, reset: float) -> Reply:
    """Rate headers as the service is said to send them: `Reset` in Unix seconds, never a `Retry-After`."""
    headers = {
        "Filestack-Limit": f"{limit:g}",
        "Filestack-Remaining": "0",
        "Filestack-Reset": str(math.ceil(reset)),
    }
    return replace(json_reply(status, {"error": "Too Many Requests"}), headers=tuple(headers.items()))


def instead(fault: Fault) -> Reply:
    """The reply of a fault that replaces an answer; not for the silent ones."""
    return _INSTEAD[fault]()


def spoil(fault: Fault, reply: Reply) -> Reply:
    """The same answer as the fault bends it; errors as they are."""
    if fault not in ODD_DATA | TRIMMED or reply.status >= ERROR:
        return reply
    return replace(reply, body=json.dumps(bend(fault, json.loads(reply.body)), ensure_ascii=False).encode())


def bend(fault: Fault | None, answer: dict[str, Any]) -> dict[str, Any]:
    """Odd data in tags, or a field left out; anything else is returned as it is."""
    if fault in TRIMMED:
        return {name: value for name, value in answer.items() if name != fault.value.removeprefix("no_")}
    if fault not in ODD_DATA or "tags" not in answer:
        return answer
    bent = copy.deepcopy(answer)
    _ODD[fault](bent["tags"])
    return bent | ({"request_id": "b6f0c9"} if fault is Fault.EXTRA_KEYS else {})


@lru_cache(maxsize=1)
def _bomb() -> Reply:
    squeeze = zlib.compressobj(level=6, wbits=31)
    block = b"a" * 2**20
    parts = [squeeze.compress(b'{"tags":{"auto":{"')]
    parts += [squeeze.compress(block) for _ in range(BOMB_BYTES // len(block))]
    parts += [squeeze.compress(b'":99},"user":null}}'), squeeze.flush()]
    return Reply(200, b"".join(parts), JSON, (("Content-Encoding", "gzip"),))


_INSTEAD: dict[Fault, Callable[[], Reply]] = {
    Fault.BAD_REQUEST: lambda: invalid_parameter("x", "tags"),
    Fault.UNREADABLE: unreadable,
    Fault.UNSUPPORTED: lambda: unsupported("image/jp2"),
    Fault.UNAUTHORIZED: lambda: traced_reply(401, "Invalid Policy"),
    Fault.FORBIDDEN: invalid_application,
    Fault.NOT_FOUND: not_found,
    Fault.TIMEOUT: lambda: text_reply(408, "Request Timeout"),
    Fault.THROTTLED: lambda: throttle_reply(429, 1, time.time() + 1),
    Fault.SERVER_ERROR: lambda: json_reply(500, {"error": "Internal Server Error"}),
    Fault.UNAVAILABLE: lambda: text_reply(503, "Service Unavailable"),
    Fault.TEXT_200: lambda: text_reply(200, "Invalid Application"),
    Fault.ERROR_200: lambda: json_reply(200, {"error": "invalid security policy path"}),
    Fault.HTML: lambda: Reply(200, _PAGE, "text/html; charset=utf-8"),
    Fault.EMPTY_BODY: lambda: Reply(200, b"", JSON),
    Fault.GZIP_BOMB: _bomb,
}


def _each_confidence(change: Callable[[int], Any]) -> Callable[[TagSets], None]:
    def spoiled(tags: TagSets) -> None:
        tags["auto"] = {label: change(confidence) for label, confidence in tags["auto"].items()}

    return spoiled


def _first_confidence(value: Any) -> Callable[[TagSets], None]:
    """Only one label is bad: the others must survive."""

    def spoiled(tags: TagSets) -> None:
        tags["auto"][next(iter(tags["auto"]))] = value

    return spoiled


def _more(labels: dict[str, int]) -> Callable[[TagSets], None]:
    return lambda tags: tags["auto"].update(labels)


_ODD: dict[Fault, Callable[[TagSets], Any]] = {
    Fault.AUTO_EMPTY: lambda tags: tags.update(auto={}),
    Fault.AUTO_NULL: lambda tags: tags.update(auto=None),
    Fault.AUTO_MISSING: lambda tags: tags.pop("auto"),
    Fault.USER_MISSING: lambda tags: tags.pop("user"),
    Fault.USER_MAP: lambda tags: tags.update(user={"album": "summer"}),
    Fault.FLOATS: _each_confidence(lambda confidence: confidence - 0.25),
    Fault.STRINGS: _each_confidence(str),
    Fault.NAN: _first_confidence(float("nan")),
    Fault.BOOLEANS: _first_confidence(value=True),
    Fault.OUT_OF_RANGE: _first_confidence(101),
    Fault.UNICODE: _more(
        {"café": 91, "空": 88, "👩‍🚀": 77, "trip (journey)": 66, 'a "quote", a:colon=%': 55}
    ),
    Fault.LONG_LABELS: _more({"very " * (_LONG // 5) + "long": 95}),
    Fault.MANY_LABELS: _more({f"label {number:03d}": number % 101 for number in range(_MANY)}),
    Fault.EXTRA_KEYS: lambda tags: tags.update(video=None, model="v9"),
}
