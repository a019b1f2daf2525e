"""Which images failed and why: counted by class and code, the first ones by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tagmill.producer.revision import FailureFilter
from tagmill.worker.models import SCHEMA, Json

Reason = tuple[str, str, str]  #: status, class and code of an error


@dataclass(slots=True)
class Failures:
    """Memory: a count for each reason, and the images that are named."""

    chosen: FailureFilter
    most: int | None  #: images that are named; None: all
    total: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    images: list[Json] = field(default_factory=list)

    def add_all(self, lines: Iterable[bytes]) -> None:
        """`lines`: rows of a manifest."""
        for line in lines:
            if b'"failed"' in line or b'"quarantined"' in line:  # most need no reading
                self._add(orjson.loads(line))

    def to_json(self, run_id: str) -> Json:
        return {
            "schema": SCHEMA,
            "run_id": run_id,
            "failures": self.total,
            "reasons": [
                {"status": status, "class": class_, "code": code, "images": count}
                for (status, class_, code), count in self.reasons.most_common()
            ],
            "images": self.images,
        }

    def describe(self) -> str:
        """Reasons, most frequent first, then the images that are named."""
        reasons = [
            f"{count:>8} {status} {code} ({class_})"
            for (status, class_, code), count in self.reasons.most_common()
        ]
        images = [f"{_named(image)}: {image['error']['message']}" for image in self.images]
        unnamed = self.total - len(images)
        more = [f"and {unnamed} more; --limit names them, failures.jsonl holds them"] if unnamed else []
        return "\n".join([f"{self.total} failed", *reasons, *images, *more])

    def _add(self, row: dict[str, Any]) -> None:
        if not self.chosen(row):
            return
        error = row["error"]
        self.total += 1
        self.reasons[row["status"], error["class"], error["code"]] += 1
        if self.most is None or len(self.images) < self.most:
            version = {"version_id": row["source"]["version_id"]} if "is_latest" in row["source"] else {}
            said = {name: row[name] for name in ("status", "attempts", "calls", "error")}
            self.images.append({"id": row["id"], **version, **said})


def _named(image: Json) -> str:
    return f"{image['id']} (version {image['version_id']})" if "version_id" in image else str(image["id"])
