"""What another tag policy would make of a run's answers. Costs no call, changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.policy import TagPolicy

Key = TypeVar("Key", str, tuple[str, str])
SHOWN = 10  #: labels of a kind that people are shown


@dataclass(slots=True)
class PolicyDiff:
    """Counts images; memory is a number for each label."""

    policy: TagPolicy
    former: Mapping[str, TagPolicy]  #: those that the rows may have, by hash
    keep_examples: int = 5
    images: int = 0  #: with an answer
    changed: int = 0
    emptied: int = 0  #: that would have no tags left
    tags_before: int = 0
    tags_after: int = 0
    gained: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    renamed: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels_gained: Counter[str] = field(default_factory=Counter)
    labels_lost: Counter[str] = field(default_factory=Counter)
    examples: list[Json] = field(default_factory=list)
    policies: Counter[str] = field(default_factory=Counter)  #: of the rows, by hash

    def add_all(self, lines: Iterable[bytes]) -> None:
        """`lines`: rows of a manifest."""
        for row in map(orjson.loads, lines):
            if row["raw_tags"] is not None:
                self._add(row)

    def _add(self, row: Json) -> None:
        tags, labels = self.policy.judge(row["raw_tags"], row["results"])
        before, after = row["tags"]["auto"], tags["auto"]
        self.images += 1
        self.policies[row["policy"]] += 1
        self.tags_before += len(before)
        self.tags_after += len(after)
        if (before, row["labels"]) == (after, labels):
            return
        self.changed += 1
        self.emptied += bool(before and not after)
        self._compare(row, before.keys() - after.keys(), after.keys() - before.keys())
        self.labels_lost.update(set(row["labels"]).difference(labels))
        self.labels_gained.update(set(labels).difference(row["labels"]))
        if len(self.examples) < self.keep_examples:
            self.examples.append(_change(row, after, labels))

    def _compare(self, row: Json, lost: set[str], gained: set[str]) -> None:
        """A label that has another name now is neither lost nor gained."""
        former = self.former.get(row["policy"], TagPolicy())
        labels = row["raw_tags"]["auto"]
        names = {(former.destiny(label)[0] or "", self.policy.destiny(label)[0] or "") for label in labels}
        renamed = {(old, new) for old, new in names if old in lost and new in gained}
        self.renamed.update(renamed)
        self.lost.update(lost - {old for old, _ in renamed})
        self.gained.update(gained - {new for _, new in renamed})

    def to_json(self, run_id: str) -> Json:
        renamed = [{"from": old, "to": new, "images": count} for (old, new), count in _ranked(self.renamed)]
        return {
            "schema": SCHEMA,
            "run_id": run_id,
            "policy": self.policy.hash,
            "policies": dict(self.policies),
            "images": self.images,
            "changed": self.changed,
            "emptied": self.emptied,
            "tags_before": self.tags_before,
            "tags_after": self.tags_after,
            "gained": dict(_ranked(self.gained)),
            "lost": dict(_ranked(self.lost)),
            "renamed": renamed,
            "labels_gained": dict(_ranked(self.labels_gained)),
            "labels_lost": dict(_ranked(self.labels_lost)),
            "examples": self.examples,
        }

    def describe(self) -> str:
        """For people: the commonest labels of a kind."""
        arrows = Counter({f"{old} → {new}": count for (old, new), count in self.renamed.items()})
        kinds = {"lost": self.lost, "gained": self.gained, "renamed": arrows}
        kinds |= {"labels lost": self.labels_lost, "labels gained": self.labels_gained}
        return "\n".join(
            [
                f"{self.changed} of {self.images} images change; {self.emptied} would have no tags left",
                f"  tags: {self.tags_before} before, {self.tags_after} after",
                *(f"  {kind}: {_commonest(counts)}" for kind, counts in kinds.items() if counts),
                *(f"  {_example(example)}" for example in self.examples),
            ]
        )


def _change(row: Json, tags: Mapping[str, float], labels: list[str]) -> Json:
    return {
        "id": row["id"],
        "before": row["tags"]["auto"],
        "after": tags,
        "labels_before": row["labels"],
        "labels_after": labels,
    }


def _ranked(counts: Counter[Key]) -> list[tuple[Key, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _commonest(counts: Counter[str]) -> str:
    shown = ", ".join(f"{label} ({count})" for label, count in _ranked(counts)[:SHOWN])
    return shown + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _example(example: Json) -> str:
    before, after = (_named(example, name) for name in ("before", "after"))
    return f"{example['id']}: {before} → {after}"


def _named(example: Json, name: str) -> str:
    """Tags, and labels in brackets."""
    return ", ".join([*example[name], *(f"[{label}]" for label in example[f"labels_{name}"])]) or "nothing"
