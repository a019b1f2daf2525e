"""Asking before something is paid for or changed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tagmill.worker.errors import ConfigError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere raise `ConfigError` without `--yes`. A no exits with 0."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question}: say --yes, as there is no terminal to ask on")
    if not typer.confirm(f"{question}?", err=True):
        raise typer.Exit
