"""`tagmill failures`."""

from __future__ import annotations

from typing import Annotated

import typer

from tagmill.producer.cli.options import AsJson, RunId, RunStore, settings_from

NAMED = 20
ErrorClass = Annotated[list[str] | None, typer.Option(help="Only this class of error.")]
Code = Annotated[list[str] | None, typer.Option(help="Only this error code.")]
Key = Annotated[list[str] | None, typer.Option(help="Only images whose id matches this glob.")]


def failures(
    run_id: RunId,
    *,
    error_class: ErrorClass = None,
    code: Code = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(min=0, help="Name so many images; 0: all.")] = NAMED,
    run_store: RunStore = None,
    as_json: AsJson = False,
) -> None:
    """List the failed images of RUN_ID.

    `tagmill retry` with the same options asks for them again.
    """
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - as above
    from tagmill.producer.failures import Failures  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.report import print_found  # noqa: PLC0415 - as above
    from tagmill.producer.revision import FailureFilter  # noqa: PLC0415 - as above
    from tagmill.producer.settled import Settled  # noqa: PLC0415 - as above

    settings = settings_from(run_store=run_store)
    settled = Settled(open_store(settings), run_id)
    chosen = FailureFilter(tuple(error_class or ()), tuple(code or ()), tuple(key or ()))
    found = Failures(chosen, limit or None)
    found.add_all(settled.lines())
    if settled.caveat:
        typer.echo(settled.caveat, err=True)
    print_found(found.to_json(run_id), found.describe, as_json=as_json)
