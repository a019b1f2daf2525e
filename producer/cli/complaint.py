"""How an expected failure is told."""

from __future__ import annotations

import sys

import typer

from tagmill.worker.errors import RuleError, TaggingError


def complain(error: TaggingError) -> None:
    """One line on stderr; of a rule, a terminal also shows the place."""
    typer.echo(f"tagmill: {error}", err=True)
    if isinstance(error, RuleError) and sys.stderr.isatty():
        typer.echo(error.excerpt, err=True)
