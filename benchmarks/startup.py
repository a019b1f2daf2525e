"""What a user waits for: `tagmill run` over one photograph, with Redis, sandbox and worker to be started."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks.stage import program, without_settings
from benchmarks.tables import Row, Table

PHOTOGRAPH = Path(__file__).parents[1] / "examples/photos/coffee.jpg"
ROUNDS = 3


def tables() -> Iterator[Table]:
    rounds = [start_up() for _ in range(ROUNDS)]
    row = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    yield Table(f"An embedded run over one image, medians of {ROUNDS} rounds", [row])


def start_up() -> Row:
    """Seconds from the command to the first call and to its end; to show its help, for comparison."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        shutil.copy(PHOTOGRAPH, folder / "photos")
        own = {"TAGMILL_RUN_STORE": str(folder / "runs"), "TAGMILL_STATE_DIR": str(folder / "state")}
        started, started_at = time.monotonic(), time.time()
        _tagmill("run", str(folder / "photos"), environment=without_settings() | own)
        ended = time.monotonic()
        (manifest,) = folder.glob("runs/runs/*/manifest.jsonl")
        first_call = _asked_at(manifest) - started_at
    _tagmill("--help", environment=without_settings())
    return {
        "seconds to the first call": first_call,
        "to the end": ended - started,
        "to show help": time.monotonic() - ended,
    }


def _asked_at(manifest: Path) -> float:
    """When the one row's call left, in seconds since the epoch."""
    row = json.loads(manifest.read_text())
    answered_at = datetime.fromisoformat(row["tagged_at"]).timestamp()
    return answered_at - float(row["latency_ms"]) / 1000


def _tagmill(*arguments: str, environment: dict[str, str]) -> None:
    command = [*program("tagmill.producer.cli.main"), *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True)
