"""`tagmill status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import AsJson, RedisUrl, RunStore, StateDir, settings_from

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.worker.state.board import Board

OPEN = {"running", "paused"}


def status(
    run_id: Annotated[str | None, typer.Argument(help="The newest run, unless named.")] = None,
    *,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run is doing, or how it ended."""
    from tagmill.producer.live import LiveRun, newest_run  # noqa: PLC0415 - as above
    from tagmill.producer.report import print_summary  # noqa: PLC0415 - as above
    from tagmill.worker.s3 import store_client  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.worker.store.opening import open_files  # noqa: PLC0415 - as above

    settings = settings_from(run_store=run_store, redis_url=redis_url, state_dir=state_dir)
    files = open_files(settings.run_store, lambda: store_client(settings.s3_endpoint_url))
    live = LiveRun(files, run_id or newest_run(files), _board(settings))
    summary = live.summary()
    print_summary(summary, as_json=as_json, message=live.control().message)
    if summary["state"] in OPEN and live.spec.embedded and not _goes_on_here(settings, live.run_id):
        typer.echo("nothing works on it here; open chunks are not counted, what they paid is kept", err=True)
        if summary["state"] == "running":
            typer.echo(f"go on with: tagmill run --resume {live.run_id}", err=True)


def _goes_on_here(settings: Settings, run_id: str) -> bool:
    from tagmill.producer.state_dir import running, state_dir  # noqa: PLC0415 - as above

    embedded = running(state_dir(settings.state_dir))
    return embedded is not None and embedded.run_id == run_id


def _board(settings: Settings) -> Board | None:
    """Return the fleet's Redis, or that of the embedded run that goes on here."""
    from tagmill.config.celery import QUEUE  # noqa: PLC0415 - as above
    from tagmill.producer.state_dir import running, state_dir  # noqa: PLC0415 - as above
    from tagmill.worker.errors import RedisUnavailableError  # noqa: PLC0415 - as above
    from tagmill.worker.state.board import Board  # noqa: PLC0415 - as above
    from tagmill.worker.state.checks import connect_checked  # noqa: PLC0415 - as above
    from tagmill.worker.state.keys import Keys  # noqa: PLC0415 - as above

    embedded = running(state_dir(settings.state_dir))
    url = settings.redis_url or (embedded.redis_url if embedded else None)
    if url is None:
        return None
    try:
        return Board(connect_checked(url), Keys(settings.redis_prefix), QUEUE)
    except RedisUnavailableError as error:
        typer.echo(f"{error}; from the run store:", err=True)
        return None
