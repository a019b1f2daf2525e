"""A launch from its first line to the exit code of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tagmill.worker.errors import RunError

if TYPE_CHECKING:
    from tagmill.producer.launch import Launch
    from tagmill.worker.models import Json


def go(launch: Launch, *, detach: bool, as_json: bool) -> None:
    """Follow the run, print its summary, and exit with what became of it."""
    from tagmill.producer.report import summary_exit_code  # noqa: PLC0415 - `--help` need not pay for it

    summary = follow(launch, detach=detach, as_json=as_json)
    raise typer.Exit(summary_exit_code(summary, detached=detach))


def follow(launch: Launch, *, detach: bool, as_json: bool) -> Json:
    """Return the summary that was printed."""
    from tagmill.producer.report import print_summary  # noqa: PLC0415 - as above

    if not as_json:
        typer.echo(launch.announcement(), err=True)
    hint = f"go on with `tagmill run --resume {launch.spec.run_id}`"
    try:
        summary = launch.go(detach=detach)
    except RunError as error:
        raise RunError(f"{error}; {hint}", code=error.code) from None
    except KeyboardInterrupt:
        typer.echo(f"tagmill: aborted; {hint}", err=True)
        raise
    print_summary(summary, as_json=as_json, message=launch.message(), passed_over=launch.passed_over())
    return summary
