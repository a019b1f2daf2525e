"""Counting rows: the same sums for a chunk, a shard and a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tagmill.worker.models import Json, Status, WriteStatus


def is_waiting(row: Mapping[str, Any]) -> bool:
    """Whether the image is to get the answer of another one with its content, and has not got it yet."""
    return bool(row["status"] == Status.DUPLICATE and row["raw_tags"] is None)


def _no_writes() -> dict[str, int]:
    return {status.value: 0 for status in WriteStatus}


@dataclass(slots=True)
class Counts:
    """Outcomes by status, calls, write-backs by status, and what rows say went wrong, by code."""

    tagged: int = 0
    failed: int = 0
    skipped: int = 0
    duplicate: int = 0
    quarantined: int = 0
    cancelled: int = 0
    calls: int = 0
    maybe_charged: int = 0
    throttled: int = 0  #: answers that said "too fast"; best effort, no row tells of them
    waiting: int = 0  #: duplicates without an answer yet: no outcome
    writes: dict[str, int] = field(default_factory=_no_writes)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """Images with an outcome."""
        return self.tagged + self.failed + self.skipped + self.duplicate + self.quarantined + self.cancelled

    def add_row(self, row: Mapping[str, Any]) -> None:
        name = "waiting" if is_waiting(row) else row["status"]
        setattr(self, name, getattr(self, name) + 1)
        self.calls += row["calls"]
        self.maybe_charged += row["maybe_charged"]
        for write in row["writes"].values():
            self.writes[write["status"]] += 1
        if row["error"] is not None:
            _add(self.errors, {row["error"]["code"]: 1})

    def add(self, other: Counts, sign: int = 1) -> None:
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        _add(self.writes, other.writes, sign)
        _add(self.errors, other.errors, sign)

    def less(self, other: Counts) -> Counts:
        """What is left when those rows are taken out."""
        rest = Counts.total([self])
        rest.add(other, sign=-1)
        rest.errors = {code: count for code, count in rest.errors.items() if count}
        return rest

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Counts:
        errors = value.get("errors", {})
        return cls(**{**value, "writes": {**_no_writes(), **value["writes"]}, "errors": dict(errors)})

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Counts:
        counts = cls()
        for row in rows:
            counts.add_row(row)
        return counts

    @classmethod
    def total(cls, parts: Iterable[Counts]) -> Counts:
        counts = cls()
        for part in parts:
            counts.add(part)
        return counts


_NUMBERS = [item.name for item in fields(Counts) if item.name not in {"writes", "errors"}]


def _add(sums: dict[str, int], more: Mapping[str, int], sign: int = 1) -> None:
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + sign * count
