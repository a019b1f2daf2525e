"""`tagmill status`, `tagmill watch` and `tagmill list`: what runs are doing, and how they ended."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import AsJson, RedisUrl, RunStore, StateDir, settings_of

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.producer.details import Details
    from tagmill.worker.models import Json

NewestRun = Annotated[str | None, typer.Argument(metavar="RUN_ID", help="The newest run, unless named.")]


def status(
    run_id: NewestRun = None,
    *,
    details: Annotated[
        bool, typer.Option("--details", help="With --json: also pace, errors, workers, limiter.")
    ] = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run is doing, or how it ended."""
    from tagmill.producer.describing import describe_details  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.report import describe_summary, print_json, print_text  # noqa: PLC0415 - as above

    settings = settings_of(locals())
    closer = _look_at(settings, run_id)
    if as_json:
        print_json(closer.look() if details else closer.live.summary())
    else:
        seen = closer.look()
        said = describe_summary(seen["run"], seen["control"]["message"])
        print_text("\n".join([said, *describe_details(seen)]))
    _say_if_nobody_works(settings, closer)


def watch(
    run_id: NewestRun = None,
    *,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look.")] = False,
) -> None:
    """Show what a run is doing until it ends.

    It looks on only; the run does not need it.
    """
    from tagmill.producer.report import summary_exit_code  # noqa: PLC0415 - as above
    from tagmill.producer.watching import open_screen, watch_run  # noqa: PLC0415 - as above

    closer = _look_at(settings_of(locals()), run_id)
    with open_screen(as_json=as_json) as screen:
        summary = watch_run(closer, screen, interval)
    raise typer.Exit(summary_exit_code(summary))


def list_runs(
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many, the newest.")] = None,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of the store, the newest first."""
    from tagmill.producer import listing  # noqa: PLC0415 - as above
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.reach import reach  # noqa: PLC0415 - as above
    from tagmill.producer.report import print_json, print_text  # noqa: PLC0415 - as above

    settings = settings_of(locals())
    listed = listing.list_runs(open_store(settings), functools.partial(reach, settings), limit)
    if as_json:
        print_json(listed)
    elif listed["runs"]:
        print_text("\n".join(map(_line, listed["runs"])))


def _line(run: Json) -> str:
    state = run["state"] + (f" ({run['reason']})" if run["reason"] else "")
    counts = "" if run["tagged"] is None else f", {run['tagged']} tagged, {run['failed']} failed"
    planned = "" if run["planned"] is None else f"  {run['planned']} images{counts}"
    return f"{run['created_at'][:19]}  {run['run_id']}  {state}{planned}  {run['source']}"


def _look_at(settings: Settings, run_id: str | None) -> Details:
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.details import Details  # noqa: PLC0415 - as above
    from tagmill.producer.live import LiveRun, newest_run  # noqa: PLC0415 - as above
    from tagmill.producer.reach import reach  # noqa: PLC0415 - as above
    from tagmill.worker.errors import RedisUnavailableError  # noqa: PLC0415 - as above
    from tagmill.worker.store.runs import Runs  # noqa: PLC0415 - as above

    files = open_store(settings)
    run_id = run_id or newest_run(files)
    spec, board = Runs(files).read(run_id), None
    try:
        board = reach(settings, spec)
    except RedisUnavailableError as error:
        typer.echo(f"{error}; from the run store:", err=True)
    return Details(LiveRun(files, run_id, board), board)


def _say_if_nobody_works(settings: Settings, closer: Details) -> None:
    from tagmill.producer.reach import goes_on_here  # noqa: PLC0415 - as above
    from tagmill.worker.store.runs import Verb  # noqa: PLC0415 - as above

    live = closer.live
    if live.over or not live.spec.embedded or goes_on_here(settings, live.spec) is not None:
        return
    typer.echo("nothing works on it here; open chunks are not counted, what they paid is kept", err=True)
    state = live.control().of(live.current.number)
    if state is not Verb.PAUSE:  # of a pause, that was said
        verb = "cancel" if state is Verb.CANCEL else "resume"
        typer.echo(f"go on with: tagmill {verb} {live.run_id}", err=True)
