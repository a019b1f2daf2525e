"""`tagmill probe`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Annotated

import typer

from tagmill.producer.cli.options import RedisUrl, parse_duration, settings_from
from tagmill.producer.exit_codes import ExitCode


def probe(
    *,
    stuck_after: Annotated[
        str, typer.Option(help="How long a worker may finish nothing while messages wait.")
    ] = "10m",
    redis_url: RedisUrl = None,
) -> None:
    """Say whether the workers of this host get on, for whoever restarts what does not.

    Exit code 1: one is stuck or silent, or there is none.
    """
    from tagmill.worker.errors import ConfigError, RedisUnavailableError  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.worker.state.checks import connect_checked  # noqa: PLC0415 - as above
    from tagmill.worker.state.keys import Keys  # noqa: PLC0415 - as above
    from tagmill.worker.state.liveness import Liveness  # noqa: PLC0415 - as above

    settings = settings_from(redis_url=redis_url)
    if settings.redis_url is None:
        raise ConfigError("TAGMILL_REDIS_URL is not set: a worker belongs to a fleet")
    patience = parse_duration("--stuck-after", stuck_after)
    try:
        liveness = Liveness(connect_checked(settings.redis_url), Keys(settings.redis_prefix))
        found = {name: liveness.examine(name, patience) for name in _here(liveness.workers())}
    except RedisUnavailableError as error:  # no restart of a worker mends that
        typer.echo(f"nothing is known of the workers: {error}")
        return
    _say(found)


def _say(found: dict[str, str | None]) -> None:
    wrong = [f"worker {name} {text}" for name, text in found.items() if text is not None]
    if not found:
        wrong = ["no worker of this host is known: has it started?"]
    typer.echo("; ".join(wrong) or f"{', '.join(found)}: well")
    raise typer.Exit(ExitCode.FAILED_IMAGES if wrong else ExitCode.DONE)


def _here(workers: Iterable[str]) -> list[str]:
    """Those whose process exists on this host; names end in its id."""
    here = f"{socket.gethostname()}-"
    named = (name for name in workers if name.startswith(here) and name.removeprefix(here).isdigit())
    return [name for name in named if _exists(int(name.removeprefix(here)))]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
