"""`tagmill`: one file for each family of commands; what is heavy is imported by the command that needs it."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from tagmill.producer.cli.complaint import complain
from tagmill.producer.cli.control import cancel, change, pause, resume
from tagmill.producer.cli.doctor import doctor
from tagmill.producer.cli.export import export
from tagmill.producer.cli.failures import failures
from tagmill.producer.cli.gc import gc
from tagmill.producer.cli.listen import listen
from tagmill.producer.cli.passes import retag, retry, undo
from tagmill.producer.cli.pipeline import pipeline
from tagmill.producer.cli.plan import plan
from tagmill.producer.cli.policy import policy
from tagmill.producer.cli.probe import probe
from tagmill.producer.cli.rules import rules
from tagmill.producer.cli.run import run
from tagmill.producer.cli.schedule import beat, schedule
from tagmill.producer.cli.servers import sandbox, worker
from tagmill.producer.cli.status import list_runs, status, watch
from tagmill.producer.cli.webhooks import serve, webhooks
from tagmill.producer.exit_codes import ExitCode, exit_code
from tagmill.worker.errors import TaggingError

app = typer.Typer(
    help="Tag whole image libraries: rate-limited, resumable, safe to kill.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(listen)
app.command()(worker)
app.command()(probe)
app.command()(status)
app.command()(watch)
app.command("list")(list_runs)
app.command()(doctor)
app.command()(gc)
app.command()(failures)
app.command()(pause)
app.command()(resume)
app.command("set")(change)
app.command()(cancel)
app.command()(retry)
app.command()(retag)
app.command()(undo)
app.command()(export)
app.add_typer(policy, name="policy")
app.add_typer(rules, name="rules")
app.command()(beat)
app.add_typer(schedule, name="schedule")
app.command()(serve)
app.add_typer(webhooks, name="webhooks")
app.add_typer(pipeline, name="pipeline")
app.command()(sandbox)


@app.command()
def version() -> None:
    """Print Tagmill's version."""
    from importlib.metadata import version as installed  # noqa: PLC0415 - only here

    typer.echo(installed("tagmill"))


def main() -> None:
    """Turn expected failures into one line on stderr and an exit code."""
    if sys.platform == "win32":
        sys.exit("tagmill: Windows is not supported; use WSL or Docker")
    try:
        sys.exit(app(standalone_mode=False))
    except TaggingError as error:
        complain(error)
        sys.exit(exit_code(error))
    except TyperException as error:  # a mistyped command or option
        typer.echo(_one_line(error), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(ExitCode.DONE)
    except Exception:  # noqa: BLE001 - Python's own exit code would say: done, with failed images
        sys.excepthook(*sys.exc_info())
        sys.exit(ExitCode.TEMPORARY)


def _one_line(error: TyperException) -> str:
    """`tagmill` alone answers with its help, which stays as it is."""
    text = error.format_message()
    return text if "\n" in text else f"tagmill: {text.removesuffix('.')}; see `tagmill --help`"


if __name__ == "__main__":
    main()
