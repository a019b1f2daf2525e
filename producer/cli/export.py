"""`tagmill export`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import AsJson, RunStore, settings_from
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import SCHEMA, Json

if TYPE_CHECKING:
    from tagmill.producer.export.exporting import Exporting
    from tagmill.producer.settled import Settled

STDOUT = "-"


def export(  # noqa: PLR0913 - an option each
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file, s3://bucket/key, or `-`: stdout.")
    ] = STDOUT,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv or parquet; else by the output's name.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only images of this status.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only images with such a tag; `*` is any text.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="Only images with such a tag at this confidence, 0 to 100.")
    ] = 0,
    explode: Annotated[bool, typer.Option("--explode", help="A line for each such tag of an image.")] = False,
    run_store: RunStore = None,
    as_json: AsJson = False,
) -> None:
    """Write rows as JSON Lines, CSV or Parquet.

    While RUN_ID goes on, those that are settled.
    """
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.export.exporting import Exporting  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.export.formats import Format, format_for  # noqa: PLC0415 - as above
    from tagmill.producer.export.selection import Selection  # noqa: PLC0415 - as above
    from tagmill.producer.export.targets import open_target  # noqa: PLC0415 - as above
    from tagmill.producer.report import print_json  # noqa: PLC0415 - as above
    from tagmill.producer.settled import Settled  # noqa: PLC0415 - as above
    from tagmill.worker.s3 import store_client  # noqa: PLC0415 - as above

    settings = settings_from(run_store=run_store)
    if as_json and output == STDOUT:
        raise ConfigError("--json would print amid the rows: name a file with --output")
    wanted = Selection.parse(status or (), tag or (), min_confidence)
    exporting = Exporting(format_for(format_, output), wanted, explode)
    if exporting.format is Format.PARQUET and output == STDOUT and sys.stdout.isatty():
        raise ConfigError("Parquet is no text: name a file with --output")
    settled = Settled(open_store(settings), run_id)
    exporting.write(settled.lines(), open_target(output, lambda: store_client(settings.s3_endpoint_url)))
    if as_json:
        print_json(_told(exporting, settled, output))
    elif output != STDOUT:
        typer.echo(f"{exporting.images} images to {output}, {exporting.size} bytes", err=True)
    if settled.caveat:
        typer.echo(settled.caveat, err=True)


def _told(exporting: Exporting, settled: Settled, output: str) -> Json:
    return {
        "schema": SCHEMA,
        "run_id": settled.run_id,
        "complete": settled.complete,
        "format": exporting.format,
        "output": output,
        "images": exporting.images,
        "bytes": exporting.size,
    }
