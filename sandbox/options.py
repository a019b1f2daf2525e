"""What a request for an intelligence task asks for besides the image: parameters, caching, resizing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tagmill.sandbox.cache import LIFETIME_SECONDS, LONGEST_SECONDS
from tagmill.sandbox.pictures import WORKING_EDGE
from tagmill.sandbox.replies import Refusal, invalid_parameter, text_reply
from tagmill.sandbox.urls import Address, Task

VERSIONS = frozenset({"1", "2"})
_TRUTHS = frozenset({"true", "false"})
#: Of each task its parameters, and the values that they may have.
_PARAMETERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "tags": {"version": VERSIONS, "v": VERSIONS},
    "doc_detection": {"coords": frozenset({"true"}), "preprocess": _TRUTHS},
}
_RESIZE = {"width", "w", "height", "h", "fit", "f", "align", "a"}
_EDGES = {"width", "w", "height", "h"}


@dataclass(frozen=True, slots=True)
class TaskOptions:
    task: Task
    lifetime_seconds: float | None = LIFETIME_SECONDS  #: None: past the cache
    longest_edge: int = WORKING_EDGE

    @classmethod
    def of(cls, address: Address) -> TaskOptions:
        """Raise Refusal for a task or parameter that is not offered."""
        task = address.tasks[-1]
        before = {task.name: task for task in address.tasks[:-1]}
        if unknown := before.keys() - ({"cache"} if task.name == "doc_detection" else {"cache", "resize"}):
            raise Refusal(
                text_reply(400, f"the sandbox does not offer `{min(unknown)}` before `{task.name}`")
            )
        check_parameters(task)
        return cls(
            task,
            lifetime_seconds=_lifetime(before["cache"]) if "cache" in before else LIFETIME_SECONDS,
            longest_edge=_edge(before["resize"]) if "resize" in before else WORKING_EDGE,
        )


def check_parameters(task: Task) -> None:
    """Raise Refusal."""
    offered = _PARAMETERS.get(task.name, {})
    for name, value in task.params.items():
        if value not in offered.get(name, ()):
            raise Refusal(invalid_parameter(name, task.name))
    if task.name == "doc_detection" and "coords" not in task.params:
        raise Refusal(text_reply(400, "the sandbox answers `doc_detection` with `coords:true` only"))


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
