"""A launch from its first line to the exit code of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from tagmill.worker.errors import RunError

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.producer.exit_codes import ExitCode
    from tagmill.producer.launch import Launch
    from tagmill.worker.models import Json
    from tagmill.worker.store.runs import RunSpec


def go(launch: Launch, *, detach: bool, as_json: bool) -> None:
    """Follow the run, print its summary, and exit with what became of it."""
    summary = follow(launch, detach=detach, as_json=as_json)
    raise typer.Exit(exit_code_of(launch, summary, detached=detach))


def exit_code_of(launch: Launch, summary: Json, *, detached: bool) -> ExitCode:
    from tagmill.producer.report import summary_exit_code  # noqa: PLC0415 - `--help` need not pay for it

    left = detached or launch.listener is not None
    return summary_exit_code(summary, detached=left, writes_only=not launch.current.kind.calls)


def foresee(settings: Settings, spec: RunSpec, *, as_json: bool) -> NoReturn:
    """Plan a run, print what it would take, and exit."""
    from tagmill.producer.plan_report import print_forecast  # noqa: PLC0415 - as above
    from tagmill.producer.planned import finish_plan  # noqa: PLC0415 - as above

    hint = f"go on with `tagmill plan --resume {spec.run_id}`"
    try:
        forecast = finish_plan(settings, spec, lambda line: typer.echo(line, err=True))
    except RunError as error:
        raise RunError(f"{error}; {hint}", code=error.code) from None
    except KeyboardInterrupt:
        typer.echo(f"tagmill: interrupted; {hint}", err=True)
        raise
    print_forecast(forecast, as_json=as_json)
    raise typer.Exit


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
