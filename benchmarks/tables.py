"""What a subject found: a table for people, JSON for comparing."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows share their columns; `notes` judge them."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        head = list(self.rows[0])
        lines = [head, *([_text(row[name]) for name in head] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines
        ]
        return "\n".join([self.title, *body, *self.notes, ""])


def machine() -> dict[str, Any]:
    """What figures depend on; nothing that says which machine it is."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "busy_before": round(psutil.cpu_percent(interval=1.0) / 100, 2),
    }


def keep(subject: str, facts: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Write `results/<subject>.json`; an earlier one is replaced."""
    RESULTS.mkdir(exist_ok=True)
    found = {
        "subject": subject,
        "at": int(time.time()),
        "machine": facts,
        "tables": [asdict(t) for t in tables],
    }
    (RESULTS / f"{subject}.json").write_text(json.dumps(found, indent=2) + "\n")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
