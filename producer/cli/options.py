"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

if TYPE_CHECKING:
    from tagmill.config.settings import Settings

_CAPS = (
    "concurrency",
    "max_calls",
    "max_cost",
    "max_duration",
    "max_failure_rate",
)  #: settings that a control may change

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]
RunStore = Annotated[str | None, typer.Option(help="Folder or s3://bucket/prefix that keeps all runs.")]
RedisUrl = Annotated[str | None, typer.Option(help="The fleet's Redis; without it a private one is started.")]
StateDir = Annotated[str | None, typer.Option(help="Where a run without a fleet keeps its Redis.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option(help="console or json; logs go to stderr.")]
MaxCalls = Annotated[int | None, typer.Option(help="Pause the run rather than pay for more calls.")]
MaxCost = Annotated[str | None, typer.Option(help="The same in money, by the price.")]
MaxDuration = Annotated[str | None, typer.Option(help="Pause after so long, such as 8h.")]
MaxFailureRate = Annotated[
    str | None, typer.Option(help="Pause when more of the last images failed, such as 20%.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def settings_from(*, quiet: bool = False, **flags: Any) -> Settings:
    """Load settings and start logging. Raise `ConfigError`.

    `quiet`: only warnings, unless a level was asked for.
    """
    from tagmill.config.logs import configure_logs  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.config.settings import load_settings  # noqa: PLC0415 - as above

    settings = load_settings(flags)
    by_default = quiet and "log_level" not in settings.model_fields_set
    level = "warning" if by_default else settings.log_level
    configure_logs(level, settings.log_format, settings.secrets())
    return settings


def settings_of(options: Mapping[str, Any], *, quiet: bool = True) -> Settings:
    """Do the same for a command whose options have the names of settings; `quiet`: it prints for people."""
    from tagmill.config.settings import Settings  # noqa: PLC0415 - as above

    given = {name: options[name] for name in Settings.model_fields if name in options}
    return settings_from(quiet=quiet, **given)


def caps_of(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caps that a command was given, as a control has them; a setting is for new runs."""
    given = {name: getattr(settings, name) for name in _CAPS if options.get(name) is not None}
    caps = {name: str(cap) if isinstance(cap, Decimal) else cap for name, cap in given.items()}
    if (rate := parse_rate(options.get("rate"))) is not None:
        caps["rate"] = str(rate)
    return caps


def parse_rate(text: str | None) -> Rate | None:
    """Raise `ConfigError`."""
    try:
        return Rate.parse(text) if text is not None else None
    except ValueError as error:
        raise ConfigError(f"--rate: {error}") from None


def parse_duration(flag: str, text: str) -> float:
    """Return seconds. Raise `ConfigError`."""
    from tagmill.config.amounts import duration  # noqa: PLC0415 - `--help` need not pay for it

    return _parsed(flag, text, duration)


def parse_age(flag: str, text: str) -> float:
    """Do the same for an age, which has a unit."""
    from tagmill.config.amounts import age  # noqa: PLC0415 - as above

    return _parsed(flag, text, age)


def _parsed(flag: str, text: str, parse: Callable[[str], float]) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None
