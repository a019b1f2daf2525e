"""`tagmill gc`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from tagmill.producer.cli.consent import Yes, confirm
from tagmill.producer.cli.options import AsJson, RunStore, settings_from
from tagmill.worker.errors import ConfigError

_DAYS = re.compile(r"(\d{1,5})d")


def gc(
    *,
    older_than: Annotated[str, typer.Option(help="Only what is over for longer, such as 90d.")] = "90d",
    state: Annotated[
        list[str] | None, typer.Option(help="completed, cancelled or paused; without it the first two.")
    ] = None,
    undo_only: Annotated[
        bool, typer.Option("--undo-only", help="Only the values that an undo needs; runs stay.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; else only say what would be.")] = False,
    yes: Yes = False,
    run_store: RunStore = None,
    as_json: AsJson = False,
) -> None:
    """Say which files nobody needs any more.

    Runs, undo values and scratch files; they are deleted if asked to.
    """
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.garbage import Wanted, find_garbage  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.report import print_json  # noqa: PLC0415 - as above

    wanted = Wanted(datetime.now(UTC) - _age(older_than), _states(state), undo_only=undo_only)
    settings = settings_from(run_store=run_store)
    files = open_store(settings)
    found = find_garbage(files, wanted, datetime.now(UTC))
    deleting = delete and len(found) > 0
    if not as_json:
        typer.echo(found.describe())
    if deleting:
        confirm(f"Delete {len(found)} of these for good", yes=yes)
        found.delete(files)
    if as_json:
        print_json(found.to_json(deleted=deleting))
    elif len(found) and not delete:
        typer.echo("nothing was deleted; say --delete to do it", err=True)


def _age(text: str) -> timedelta:
    match = _DAYS.fullmatch(text.strip())
    if match is None:
        raise ConfigError("--older-than: write a number of days, such as 90d")
    return timedelta(days=int(match[1]))


def _states(said: list[str] | None) -> tuple[str, ...]:
    from tagmill.producer.garbage import DEFAULT_STATES, STATES  # noqa: PLC0415 - as above

    for state in said or ():
        if state not in STATES:
            raise ConfigError(
                f"--state: {state!r} is none of {', '.join(STATES)}; what runs is never deleted"
            )
    return tuple(said) if said else DEFAULT_STATES
