"""`tagmill plan`: what a run would take, and a run that can be started as it was shown."""

from __future__ import annotations

import inspect
from typing import Any

from tagmill.producer.cli.run import run

OF_A_START = {"plan", "dry_run", "detach"}  #: options of `run` that `plan` has no use for


def plan(**options: Any) -> None:
    """List SOURCE and say what a run would take.

    Start it with `tagmill run --plan`.
    """
    run(**options, dry_run=True)


def _like_run() -> inspect.Signature:
    """What `run` can be told, `plan` can: the plan is a run's."""
    signature = inspect.signature(run, eval_str=True)
    kept = [option for name, option in signature.parameters.items() if name not in OF_A_START]
    return signature.replace(parameters=kept)


plan.__signature__ = _like_run()  # type: ignore[attr-defined] # where inspect, and so typer, looks first
