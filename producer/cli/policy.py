"""`tagmill policy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tagmill.producer.cli.options import AsJson, RunStore, settings_from
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import SCHEMA

policy = typer.Typer(
    help="Look at a tag policy before it is used.", no_args_is_help=True, add_completion=False
)


@policy.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, or CSV with a vocabulary.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Print the policy that FILE says, in its canonical form, and its hash."""
    from tagmill.producer.policy_file import read_policy  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.report import print_json  # noqa: PLC0415 - as above

    said = read_policy(file)
    if as_json:
        print_json({"schema": SCHEMA, "hash": said.hash, "policy": said.to_json()})
    else:
        typer.echo(f"{said.hash}\n{json.dumps(said.to_json(), indent=2, ensure_ascii=False)}")


@policy.command()
def diff(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    *,
    file: Annotated[
        Path | None, typer.Option("--policy", help="File that says which tags are kept, under what names.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="So many images that change are shown.")] = 5,
    run_store: RunStore = None,
    as_json: AsJson = False,
) -> None:
    """Show what another policy would change in RUN_ID. Calls nobody and changes nothing."""
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.policy_diff import PolicyDiff  # noqa: PLC0415 - as above
    from tagmill.producer.policy_file import read_policy  # noqa: PLC0415 - as above
    from tagmill.producer.report import print_found  # noqa: PLC0415 - as above
    from tagmill.producer.settled import Settled  # noqa: PLC0415 - as above

    settings = settings_from(policy=file, run_store=run_store)
    if settings.policy is None:
        raise ConfigError("name the other policy: --policy FILE")
    settled = Settled(open_store(settings), run_id)
    found = PolicyDiff(read_policy(settings.policy), settled.policies(), examples)
    found.add_all(settled.lines())
    print_found(found.to_json(run_id), found.describe, as_json=as_json)
    if settled.caveat:
        typer.echo(settled.caveat, err=True)
