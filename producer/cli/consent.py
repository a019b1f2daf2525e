"""Asking before something is paid for or changed."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from tagmill.producer.safety import Dialogue

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere raise `ConfigError` without `--yes`. A no exits with 0."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question}: say --yes, as there is no terminal to ask on")
    if not typer.confirm(f"{question}?", err=True):
        raise typer.Exit


def dialogue(*, as_json: bool) -> Dialogue:
    """Return how to talk with whoever starts a run."""
    from tagmill.producer.safety import Dialogue  # noqa: PLC0415 - `--help` need not pay for it

    answers = sys.stdin.isatty() and sys.stderr.isatty()
    return Dialogue(
        say=lambda line: None if as_json else typer.echo(line, err=True),
        ask=functools.partial(typer.confirm, err=True) if answers else None,
    )
