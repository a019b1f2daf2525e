"""`tagmill pause`, `resume`, `set` and `cancel`: steer a run that goes on, from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagmill.producer.cli.consent import Yes, confirm
from tagmill.producer.cli.going import go
from tagmill.producer.cli.options import (
    AsJson,
    LogFormat,
    LogLevel,
    MaxCalls,
    MaxCost,
    MaxDuration,
    MaxFailureRate,
    RedisUrl,
    RunId,
    RunStore,
    StateDir,
    caps_of,
    settings_of,
)
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.producer.steering import Steering


def pause(
    run_id: RunId,
    *,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Stop RUN_ID for now.

    Calls in flight finish and are kept, nothing new begins.
    """
    steering = _steering(settings_of(locals()), run_id)
    steering.pause()
    _show(steering, as_json=as_json)


def resume(  # noqa: PLR0913 - an option each
    run_id: RunId,
    *,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    max_duration: MaxDuration = None,
    max_failure_rate: MaxFailureRate = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show progress.")] = False,
    yes: Yes = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Lift the pause of RUN_ID.

    A run without a fleet is gone on with here.
    """
    from tagmill.producer.launch import reopen_run  # noqa: PLC0415 - `--help` need not pay for it

    settings = settings_of(locals())
    caps = caps_of(settings, locals())
    bill = {name: cap for name, cap in caps.items() if name in {"max_calls", "max_cost"}}
    _ask_for(_steering(settings, run_id), bill, yes=yes)
    launch = reopen_run(settings, run_id, caps)
    go(launch, detach=not (follow or launch.spec.embedded), as_json=as_json)


def change(  # noqa: PLR0913 - an option each
    run_id: RunId,
    *,
    rate: Annotated[str | None, typer.Option(help="Calls, such as 20/s; a cap for this run.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Calls in flight per process.")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    max_duration: MaxDuration = None,
    max_failure_rate: MaxFailureRate = None,
    yes: Yes = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Change the rate or the caps of RUN_ID.

    While it goes on, all workers keep to it within seconds.
    """
    settings = settings_of(locals() | {"rate": None})  # which is the account's; the option is the run's own
    caps = caps_of(settings, locals())
    if not caps:
        raise ConfigError("name what is to change, such as --rate 20/s")
    steering = _steering(settings, run_id)
    _ask_for(steering, caps, yes=yes)
    changed = steering.change(caps)
    from tagmill.producer.report import print_caps  # noqa: PLC0415 - as above

    print_caps(changed, as_json=as_json)


def cancel(
    run_id: RunId,
    *,
    yes: Yes = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """End RUN_ID for good.

    What is done stays, the rest becomes `cancelled` rows.
    """
    from tagmill.producer.report import print_summary  # noqa: PLC0415 - as above

    steering = _steering(settings_of(locals()), run_id)
    if not steering.is_cancelled:
        left = steering.summary()["remaining"]
        confirm(f"Cancel run {run_id} for good, with {left} images to go", yes=yes)
    print_summary(steering.cancel(), as_json=as_json)


def _steering(settings: Settings, run_id: str) -> Steering:
    from tagmill.producer.steering import Steering  # noqa: PLC0415 - as above

    return Steering.of(settings, run_id)


def _ask_for(steering: Steering, caps: dict[str, Any], *, yes: bool) -> None:
    """Ask before a run may cost more than it could until now."""
    if raised := steering.raised(caps):
        told = ", ".join(f"{name.replace('_', ' ')} from {change}" for name, change in raised.items())
        confirm(f"Raise for run {steering.run_id}: {told}", yes=yes)


def _show(steering: Steering, *, as_json: bool) -> None:
    from tagmill.producer.report import print_summary  # noqa: PLC0415 - as above

    print_summary(steering.summary(), as_json=as_json, message=steering.control().message)
