"""`tagmill serve` and `tagmill webhooks`."""

from __future__ import annotations

import json
from dataclasses import asdict
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
    from tagmill.worker.store.base import Files

DEFAULT_PORT = 8092
EXCERPT = 120  #: characters of a body that a line shows

webhooks = typer.Typer(
    help="Look at the events that the receiver has kept.", no_args_is_help=True, add_completion=False
)


def serve(
    *,
    host: Annotated[str, typer.Option(help="Loopback unless you say otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = DEFAULT_PORT,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Receive Filestack's webhooks until told to stop; TERM keeps what is in hand."""
    settings = settings_of(locals(), quiet=False)
    from tagmill.worker.webhooks.serve import serve as receive  # noqa: PLC0415 - imports the server

    def say_where(url: str) -> None:
        for name in settings.webhook_endpoints:
            typer.echo(f"receiving at {url}/webhooks/filestack/{name}", err=True)

    receive(settings, host=host, port=port, ready=say_where)


@webhooks.command()
def counts(*, run_store: RunStore = None, as_json: AsJson = False) -> None:
    """Count the events of the last seven days that were dealt with, by action."""
    from tagmill.producer.report import print_found  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.worker.store.digests import recent_counts  # noqa: PLC0415 - as above

    found = recent_counts(_open(run_store), datetime.now(UTC))
    lines = (f"{count:>9,} {action}" for action, count in found.items())
    told = "\n".join(lines) or "no event was dealt with"
    print_found({"schema": SCHEMA, "counts": found}, lambda: told, as_json=as_json)


@webhooks.command()
def quarantined(*, run_store: RunStore = None, as_json: AsJson = False) -> None:
    """List signed events that could not be understood or attributed, and why."""
    from tagmill.producer.report import print_json  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.worker.store.quarantine import Quarantine  # noqa: PLC0415 - as above

    found = list(Quarantine(_open(run_store)))
    if as_json:
        print_json({"schema": SCHEMA, "quarantined": [asdict(one) for one in found]})
        return
    for one in found:
        body = json.dumps(one.body, ensure_ascii=False)
        typer.echo(f"{one.received_at} {one.endpoint} {one.reason}: {body[:EXCERPT]}")
    if not found:
        typer.echo("nothing is quarantined")


def _open(run_store: str | None) -> Files:
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - `--help` need not pay for it

    return open_store(settings_from(run_store=run_store))
