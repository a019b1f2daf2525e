"""`tagmill pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagmill.worker.errors import ConfigError

pipeline = typer.Typer(
    help="Look at a pipeline of tasks before it is used.", no_args_is_help=True, add_completion=False
)


@pipeline.callback()
def _group() -> None:
    """Keep `show` a command of its own."""


@pipeline.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, as for `tagmill run --pipeline`.")],
    *,
    style: Annotated[str, typer.Option("--format", help="text or mermaid.")] = "text",
) -> None:
    """Draw the tasks of FILE, what decides which of them run, and its rules."""
    from tagmill.producer.pipeline_drawing import Style, draw  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.pipeline_file import read_pipeline  # noqa: PLC0415 - as above

    if style not in set(Style):
        raise ConfigError(f"--format {style}: use one of {', '.join(Style)}")
    typer.echo(draw(read_pipeline(file), Style(style)))
