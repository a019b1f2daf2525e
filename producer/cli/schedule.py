"""`tagmill beat` and `tagmill schedule`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import (
    AsJson,
    LogFormat,
    LogLevel,
    RedisUrl,
    RunStore,
    settings_from,
    settings_of,
)
from tagmill.worker.models import SCHEMA

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.worker.models import Json

Name = Annotated[str, typer.Argument(metavar="NAME")]

schedule = typer.Typer(
    help="Look at the schedules of tagmill.toml, or run one now.", no_args_is_help=True, add_completion=False
)


def beat(
    *,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Start and plan the runs of the schedules when they are due, until told to stop."""
    settings = settings_of(locals(), quiet=False)
    from tagmill.producer.schedules.beat import serve  # noqa: PLC0415 - `--help` need not pay for it

    serve(settings, lambda line: typer.echo(line, err=True))


@schedule.command("list")
def list_schedules(
    *, run_store: RunStore = None, redis_url: RedisUrl = None, as_json: AsJson = False
) -> None:
    """List the schedules: when they run, what ran last and how that ended, what comes next."""
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.report import print_json, print_text  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.overview import NO_BEAT, overview  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.schedule import schedules_of  # noqa: PLC0415 - as above

    settings = settings_of(locals())
    found = schedules_of(settings)
    files = open_store(settings)
    troubles, beats = _of_redis(settings)
    listed = overview(files, found, troubles, datetime.now(UTC))
    if as_json:
        print_json({"schema": SCHEMA, "beat": beats, "schedules": listed})
        return
    if listed:
        print_text("\n".join(map(_lines, listed)))
    else:
        typer.echo("no schedule is set up", err=True)
    if listed and beats is False:
        typer.echo(NO_BEAT, err=True)


@schedule.command("next")
def next_slots(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All, unless named.")] = None,
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="So many of each.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Print the next slots, in the schedule's time zone and in UTC."""
    from tagmill.producer.report import print_json, print_text  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.overview import upcoming  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.schedule import find_schedule, schedules_of  # noqa: PLC0415 - as above

    settings = settings_from(quiet=True)
    found = [find_schedule(settings, name)] if name is not None else schedules_of(settings)
    now = datetime.now(UTC)
    slots = [(one, slot) for one in found for slot in upcoming(one, now, count)]
    runs = [
        {"name": one.name, "at": slot.isoformat(), "run_id": one.run_id(slot.astimezone(UTC))}
        for one, slot in slots
    ]
    if as_json:
        print_json({"schema": SCHEMA, "next": runs})
    elif runs:
        print_text("\n".join(f"{run['at']}  {run['run_id']}" for run in runs))


@schedule.command("run")
def run_now(
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show progress.")] = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Start the run of the schedule NAME now, plan it, and leave the work to the fleet."""
    from tagmill.producer.cli.consent import dialogue  # noqa: PLC0415 - as above
    from tagmill.producer.cli.going import go  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.now import start_now  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.schedule import find_schedule  # noqa: PLC0415 - as above

    settings = settings_of(locals())
    chosen = find_schedule(settings, name)
    launch = start_now(settings, chosen, dialogue(as_json=as_json), datetime.now(UTC))
    go(launch, detach=not follow, as_json=as_json)


def _of_redis(settings: Settings) -> tuple[dict[str, str], bool | None]:
    """Return what a beat noted, and whether there is one; None: nobody can tell."""
    from tagmill.producer.reach import open_board  # noqa: PLC0415 - as above
    from tagmill.worker.errors import RedisUnavailableError  # noqa: PLC0415 - as above

    if settings.redis_url is None:
        return {}, None
    try:
        board = open_board(settings, settings.redis_url)
        return board.troubles(), board.beats()
    except RedisUnavailableError as error:
        typer.echo(f"{error}; from the run store:", err=True)
        return {}, None


def _lines(one: Json) -> str:
    last = one["last"]
    lines = [f"{one['name']}  {one['cron']} ({one['time_zone']})  {one['source']}"]
    if last is None:
        lines.append("  last: none")
    else:
        reason = f" ({last['reason']})" if last["reason"] else ""
        error = f": {last['error']}" if last["error"] else ""
        lines.append(f"  last: {last['run_id']}  {last['state']}{reason}{error}")
    if one["trouble"]:
        lines.append(f"  trouble: {one['trouble']}")
    waits = ", once that is over" if last and last["open"] else ""
    lines.append(f"  next: {''.join(one['next'])}{waits}")
    return "\n".join(lines)
