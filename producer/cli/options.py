"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tagmill.config.settings import Settings

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]
RunStore = Annotated[str | None, typer.Option(help="Folder or s3://bucket/prefix that keeps all runs.")]
RedisUrl = Annotated[str | None, typer.Option(help="The fleet's Redis; without it a private one is started.")]
StateDir = Annotated[str | None, typer.Option(help="Where a run without a fleet keeps its Redis.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option(help="console or json; logs go to stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def settings_from(**flags: Any) -> Settings:
    """Load settings and start logging. Raise `ConfigError`."""
    from tagmill.config.logs import configure_logs  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.config.settings import load_settings  # noqa: PLC0415 - as above

    settings = load_settings(flags)
    configure_logs(settings.log_level, settings.log_format, settings.secrets())
    return settings


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Do the same for a command whose options are settings where they have a setting's name."""
    from tagmill.config.settings import Settings  # noqa: PLC0415 - as above

    return settings_from(**{name: options[name] for name in Settings.model_fields if name in options})
