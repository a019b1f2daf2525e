"""`tagmill worker` and `tagmill sandbox`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import LogFormat, LogLevel, RedisUrl, RunStore, settings_from, settings_of

if TYPE_CHECKING:
    from tagmill.sandbox.config import SandboxConfig


def worker(
    *,
    processes: Annotated[int | None, typer.Option(help="Chunks worked on at a time.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Calls in flight per process.")] = None,
    lanes: Annotated[
        str | None, typer.Option(help="Of events, nightly and backfill; several with commas.")
    ] = None,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Work for the fleet until told to stop.

    TERM lets calls in flight finish.
    """
    settings = settings_of(locals(), quiet=False)
    from tagmill.worker.serve import serve  # noqa: PLC0415 - imports Celery

    raise typer.Exit(serve(settings))


def sandbox(
    *,
    port: Annotated[int | None, typer.Option(help="8091; 0 takes any free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Loopback unless you say otherwise.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="JSON file with all settings; see docs/sandbox.md.")
    ] = None,
    workflows: Annotated[
        Path | None, typer.Option(help="TOML file with workflows; see docs/sandbox.md.")
    ] = None,
    rate_limit: Annotated[str | None, typer.Option(help="Throttle above this, such as 20/s.")] = None,
    latency: Annotated[float | None, typer.Option(help="Least seconds a tags call takes.")] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Answer any handle from memory, for load tests.")
    ] = False,
) -> None:
    """Serve a Filestack-compatible tagging API.

    For trials, tests and load; no substitute for the service. Its tags are computed from the pixels:
    colours, light, composition. It knows no objects.
    """
    from tagmill.sandbox.config import SandboxConfig, read_settings  # noqa: PLC0415 - imports NumPy
    from tagmill.sandbox.serve import serve  # noqa: PLC0415 - as above

    settings = settings_from()
    given = read_settings(config)
    if settings.filestack_api_key is not None and settings.filestack_app_secret is not None:
        given["api_key"] = settings.filestack_api_key.get_secret_value()
        given["app_secret"] = settings.filestack_app_secret.get_secret_value()
    chosen = {
        "host": host,
        "port": port,
        "workflows": workflows,
        "rate_limit": rate_limit,
        "latency_seconds": latency,
        "load": load or None,
    }
    given |= {name: value for name, value in chosen.items() if value is not None}
    chosen_config = SandboxConfig.from_json(given)
    unset = not {"api_key", "app_secret"} & given.keys()
    serve(chosen_config, ready=lambda url: _say_where(url, chosen_config if unset else None))


def _say_where(url: str, defaults: SandboxConfig | None) -> None:
    """`defaults`: key and secret that everybody may know, as nobody set others."""
    typer.echo(f"sandbox at {url}; point Tagmill at it with:", err=True)
    typer.echo(f"  export TAGMILL_FILESTACK_CDN_URL={url} TAGMILL_FILESTACK_API_URL={url}/api", err=True)
    if defaults is not None:
        key, secret = defaults.api_key, defaults.app_secret
        typer.echo(
            f"  export TAGMILL_FILESTACK_API_KEY={key} TAGMILL_FILESTACK_APP_SECRET={secret}", err=True
        )
