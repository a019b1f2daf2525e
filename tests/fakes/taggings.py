"""What tests write, and the callables that a sink asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tagmill.worker.sinks.base import Tagging

TAGGING = Tagging(
    run_id="run-one",
    engine="filestack",
    engine_config="0123456789abcdef",
    policy="fedcba9876543210",
    tags={"auto": {"sky": 97, "no person": 88}, "user": None},
    tagged_at="2026-11-22T00:00:00Z",
)
#: As a policy with other rules makes it of the same answer.
LABELLED = replace(TAGGING, policy="aaaabbbbccccdddd", labels=("family", "needs-review"))
OTHER_ANSWER = replace(TAGGING, run_id="run-two", tags={"auto": {"sea": 55}, "user": None})


async def keep(_: Mapping[str, Any]) -> None:
    """Nobody asks."""


async def no_manifest(_run_id: str) -> None:
    """Earlier runs left none."""
