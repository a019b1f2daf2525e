"""`tagmill retry`, `tagmill retag` and `tagmill undo`: another pass over a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.consent import Yes, confirm
from tagmill.producer.cli.failures import Code, ErrorClass, Key
from tagmill.producer.cli.going import exit_code_of, follow, go
from tagmill.producer.cli.options import (
    AsJson,
    LogFormat,
    LogLevel,
    RedisUrl,
    RunId,
    RunStore,
    StateDir,
    settings_from,
)
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.producer.launch import Launch
    from tagmill.producer.passes import Wish

Detach = Annotated[bool, typer.Option("--detach", help="Plan, then leave the work to the fleet.")]


def retry(  # noqa: PLR0913 - an option each
    run_id: RunId,
    *,
    error_class: ErrorClass = None,
    code: Code = None,
    key: Key = None,
    writes_only: Annotated[
        bool, typer.Option("--writes-only", help="Only write-backs that failed; calls nobody.")
    ] = False,
    tasks_only: Annotated[
        bool, typer.Option("--tasks-only", help="Only tasks of a pipeline that failed, of tagged images.")
    ] = False,
    yes: Yes = False,
    detach: Detach = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Ask again for the failed images of RUN_ID.

    This is a pass of the same run.
    """
    from tagmill.producer.passes import Wish  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.revision import FailureFilter  # noqa: PLC0415 - as above
    from tagmill.worker.store.passes import PassKind  # noqa: PLC0415 - as above

    settings = settings_from(
        run_store=run_store,
        redis_url=redis_url,
        state_dir=state_dir,
        log_level=log_level,
        log_format=log_format,
    )
    chosen = FailureFilter(tuple(error_class or ()), tuple(code or ()), tuple(key or ()), tasks_only)
    if writes_only and chosen != FailureFilter():
        raise ConfigError("--writes-only repairs every failed write: leave out the other filters")
    wish = Wish(PassKind.WRITE) if writes_only else Wish(PassKind.RETRY, chosen.to_json())
    asking = "Ask again, and pay, for " + ("failed tasks of " if tasks_only else "") + "{count} images"
    question = "Write {count} images back again" if writes_only else asking
    begun = _Begun(settings, run_id, wish, as_json=as_json)
    begun.confirm(question, yes=yes)
    go(begun.launch(), detach=detach, as_json=as_json)


def retag(  # noqa: PLR0913 - an option each
    run_id: RunId,
    *,
    policy: Annotated[Path, typer.Option(help="Tag policy: TOML, or a CSV vocabulary.")],
    yes: Yes = False,
    detach: Detach = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Apply another tag policy to RUN_ID's answers.

    In manifest and write-back; calls nobody.
    """
    from tagmill.producer.passes import Wish  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.policy_file import read_policy  # noqa: PLC0415 - as above
    from tagmill.worker.store.passes import PassKind  # noqa: PLC0415 - as above

    settings = settings_from(
        run_store=run_store,
        redis_url=redis_url,
        state_dir=state_dir,
        log_level=log_level,
        log_format=log_format,
    )
    wish = Wish(PassKind.RETAG, policy=read_policy(policy).to_json())
    begun = _Begun(settings, run_id, wish, as_json=as_json)
    begun.confirm("Give {count} images the tags of this policy", yes=yes)
    go(begun.launch(), detach=detach, as_json=as_json)


def undo(  # noqa: PLR0913 - an option each
    run_id: RunId,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")] = False,
    yes: Yes = False,
    detach: Detach = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Take back what RUN_ID wrote.

    Our keys go, or what stood there before comes back.
    """
    from tagmill.producer.passes import Wish, left_alone  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.worker.store.passes import PassKind  # noqa: PLC0415 - as above

    settings = settings_from(
        run_store=run_store,
        redis_url=redis_url,
        state_dir=state_dir,
        log_level=log_level,
        log_format=log_format,
    )
    begun = _Begun(settings, run_id, Wish(PassKind.UNDO), as_json=as_json)
    typer.echo(begun.selected.describe(), err=True)
    if dry_run:
        raise typer.Exit
    begun.confirm("Take back what was written for {count} images", yes=yes)
    launch = begun.launch()
    summary = follow(launch, detach=detach, as_json=as_json)
    if not (detach or as_json):
        typer.echo(left_alone(launch), nl=False)
    raise typer.Exit(exit_code_of(launch, summary, detached=detach))


class _Begun:
    """A pass that is proposed, and made once it is confirmed."""

    def __init__(self, settings: Settings, run_id: str, wish: Wish, *, as_json: bool) -> None:
        """Exit with the summary where nothing is to be done."""
        from tagmill.producer.launch import open_runs  # noqa: PLC0415 - as above
        from tagmill.producer.passes import Selected, propose  # noqa: PLC0415 - as above

        self._settings, self._run_id = settings, run_id
        self._runs = open_runs(settings)
        self._proposed = propose(self._runs, run_id, wish)
        self.selected = Selected.of(self._runs, run_id, self._proposed)
        if not self.selected.images:
            self._nothing_to_do(as_json=as_json)

    def confirm(self, question: str, *, yes: bool) -> None:
        confirm(question.format(count=self.selected.images), yes=yes)

    def launch(self) -> Launch:
        from tagmill.producer.passes import begin  # noqa: PLC0415 - as above

        return begin(self._settings, self._runs, self._run_id, self._proposed)

    def _nothing_to_do(self, *, as_json: bool) -> None:
        from tagmill.producer.live import LiveRun  # noqa: PLC0415 - as above
        from tagmill.producer.report import print_summary  # noqa: PLC0415 - as above

        typer.echo(f"run {self._run_id}: nothing to {self._proposed.kind}", err=True)
        if as_json:
            print_summary(LiveRun(self._runs.files, self._run_id, None).summary(), as_json=True)
        raise typer.Exit
