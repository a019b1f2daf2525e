"""What a tags request asks for besides the image: version, caching, resizing."""

from __future__ import annotations

from dataclasses import dataclass

from tagmill.sandbox.cache import LIFETIME_SECONDS, LONGEST_SECONDS
from tagmill.sandbox.pictures import WORKING_EDGE
from tagmill.sandbox.replies import Refusal, invalid_parameter, text_reply
from tagmill.sandbox.urls import Address, Task

VERSIONS = ("1", "2")
_RESIZE = {"width", "w", "height", "h", "fit", "f", "align", "a"}
_EDGES = {"width", "w", "height", "h"}


@dataclass(frozen=True, slots=True)
class TagOptions:
    version: int = 2
    lifetime_seconds: float | None = LIFETIME_SECONDS  #: None: past the cache
    longest_edge: int = WORKING_EDGE

    @classmethod
    def of(cls, address: Address) -> TagOptions:
        """Raise Refusal for a task or parameter that is not offered."""
        if address.tasks[-1].name != "tags":
            raise Refusal(text_reply(400, "tags must be the last task"))
        by_name = {task.name: task for task in address.tasks}
        if unknown := by_name.keys() - {"tags", "cache", "resize"}:
            raise Refusal(text_reply(400, f"the sandbox does not offer the task `{min(unknown)}`"))
        return cls(
            version=_version(by_name["tags"]),
            lifetime_seconds=_lifetime(by_name["cache"]) if "cache" in by_name else LIFETIME_SECONDS,
            longest_edge=_edge(by_name["resize"]) if "resize" in by_name else WORKING_EDGE,
        )


def _version(task: Task) -> int:
    for name, value in task.params.items():
        if name not in {"version", "v"} or value not in VERSIONS:
            raise Refusal(invalid_parameter(name, "tags"))
        return int(value)
    return 2


def _lifetime(task: Task) -> float | None:
    """`cache=false` (`f`), `cache=expiry:600` (`e`), `cache=expiry:max`."""
    for name, value in task.params.items():
        if name in {"false", "f"} and not value:
            return None
        if name not in {"expiry", "e"} or not (value == "max" or _is_number(value)):
            raise Refusal(invalid_parameter(name, "cache"))
        return LONGEST_SECONDS if value == "max" else min(float(value), LONGEST_SECONDS)
    raise Refusal(text_reply(400, "the task `cache` needs a parameter"))


def _edge(task: Task) -> int:
    for name, value in task.params.items():
        if name not in _RESIZE or (name in _EDGES and not (_is_number(value) and int(value) > 0)):
            raise Refusal(invalid_parameter(name, "resize"))
    edges = [int(value) for name, value in task.params.items() if name in _EDGES]
    if not edges:
        raise Refusal(text_reply(400, "the task `resize` needs a width or a height"))
    return max(edges)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10  # noqa: PLR2004 - an integer of sane length
