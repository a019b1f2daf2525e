"""`tagmill rules`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagmill.producer.cli.complaint import complain
from tagmill.producer.cli.options import AsJson, RunId, RunStore, settings_from
from tagmill.producer.exit_codes import ExitCode
from tagmill.worker.errors import RuleError
from tagmill.worker.models import SCHEMA

rules = typer.Typer(
    help="Look at rules on tags before they are used.", no_args_is_help=True, add_completion=False
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="TOML, or lines of a name, a colon and a rule.")]


@rules.command()
def check(file: File, *, as_json: AsJson = False) -> None:
    """Print the rules of FILE in their canonical form, and all that is wrong with them."""
    from tagmill.producer.report import print_json  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.rules_file import check_rules  # noqa: PLC0415 - as above

    found = check_rules(file)
    if as_json:
        print_json({"schema": SCHEMA, "rules": [named.to_json() for named in found]})
    wrong = [named.rule for named in found if isinstance(named.rule, RuleError)]
    for named in found:
        if not as_json and named.rule not in wrong:
            typer.echo(f"{named.name}: {named.rule}")
    for error in wrong:
        complain(error)
    if wrong:
        raise typer.Exit(ExitCode.USAGE)


@rules.command("test")
def count(
    file: File,
    run_id: RunId,
    *,
    examples: Annotated[int, typer.Option(min=0, help="So many images that match are named.")] = 5,
    run_store: RunStore = None,
    as_json: AsJson = False,
) -> None:
    """Count the images of RUN_ID that each rule of FILE matches. Calls nobody and changes nothing."""
    from tagmill.producer.cli.store import open_store  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.report import print_found  # noqa: PLC0415 - as above
    from tagmill.producer.rule_matches import RuleMatches  # noqa: PLC0415 - as above
    from tagmill.producer.rules_file import read_rules  # noqa: PLC0415 - as above
    from tagmill.producer.settled import Settled  # noqa: PLC0415 - as above

    wanted = read_rules(file)
    settings = settings_from(run_store=run_store)
    settled = Settled(open_store(settings), run_id)
    found = RuleMatches(wanted, settled.policies(), examples)
    found.add_all(settled.lines())
    if settled.caveat:
        typer.echo(settled.caveat, err=True)
    print_found(found.to_json(run_id), found.describe, as_json=as_json)
