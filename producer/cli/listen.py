"""`tagmill listen`."""

from __future__ import annotations

from typing import Annotated

import typer

from tagmill.producer.cli.consent import dialogue
from tagmill.producer.cli.options import (
    LogFormat,
    LogLevel,
    MaxCalls,
    MaxCost,
    MaxFailureRate,
    RedisUrl,
    RunStore,
    StateDir,
    parse_rate,
    settings_of,
)
from tagmill.producer.cli.run_options import (
    AllowCopyEvents,
    AllowNewVersions,
    Exclude,
    Extension,
    Include,
    KeepUploads,
    MaxSize,
    MinSize,
    Pipeline,
    Policy,
    PricePer1000,
    Probe,
    SidecarPrefix,
    TaskName,
    Transfer,
    WorkflowId,
    WriteBack,
    selection_of,
)
from tagmill.worker.errors import ConfigError

STOPPING = "stopping: what is in hand is planned; once more aborts"


def listen(  # noqa: PLR0913 - an option each
    source: Annotated[
        str | None, typer.Argument(help="s3://bucket/prefix whose new objects are tagged.")
    ] = None,
    *,
    queue: Annotated[str | None, typer.Option(help="URL of the SQS queue with the bucket's events.")] = None,
    dead_letter_queue: Annotated[
        str | None, typer.Option(help="URL of the queue for what cannot be read; else it stays.")
    ] = None,
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Tag what `tagmill serve` hears of, in place of SOURCE.")
    ] = False,
    name: Annotated[str, typer.Option(help="Names the hourly runs: events-NAME-….")] = "uploads",
    lane: Annotated[str, typer.Option(help="events, nightly or backfill.")] = "events",
    own_principal: Annotated[
        str | None, typer.Option(help="Principal id of the workers, whose copies are no news.")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Calls, such as 20/s; a cap for its runs.")] = None,
    engine: Annotated[str | None, typer.Option(help="filestack, filestack-workflow or sandbox.")] = None,
    workflow_id: WorkflowId = None,
    task_name: TaskName = None,
    write_back: WriteBack = None,
    sidecar_prefix: SidecarPrefix = None,
    probe: Probe = None,
    allow_new_versions: AllowNewVersions = None,
    allow_copy_events: AllowCopyEvents = None,
    transfer: Transfer = None,
    keep_uploads: KeepUploads = None,
    policy: Policy = None,
    pipeline: Pipeline = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price_per_1000: PricePer1000 = None,
    max_failure_rate: MaxFailureRate = None,
    include: Include = None,
    exclude: Exclude = None,
    extension: Extension = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Tag images as they come in, an ordinary run for each hour, until told to stop.

    Without a fleet it brings a worker of its own.
    """
    others = {"rate": None, "webhooks": None}  # settings of other commands
    settings = settings_of(locals() | others, quiet=False)
    if webhooks in {source is not None, queue is not None}:
        raise ConfigError("name s3://bucket/prefix and its --queue, or say --webhooks alone")
    if queue is None and dead_letter_queue is not None:
        raise ConfigError("--dead-letter-queue is for what cannot be read of a --queue")
    if queue is not None and dead_letter_queue == queue:
        raise ConfigError("--dead-letter-queue is the --queue itself: what cannot be read would go round")
    from tagmill.config.celery import LANES  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.interrupts import interrupts  # noqa: PLC0415 - as above
    from tagmill.producer.listen import WEBHOOKS, ListenOptions, listening  # noqa: PLC0415 - as above
    from tagmill.producer.preparation import RunOptions  # noqa: PLC0415 - as above
    from tagmill.producer.sources.spec import parse_source  # noqa: PLC0415 - as above

    if lane not in LANES:
        raise ConfigError(f"--lane {lane}: use {', '.join(LANES)}")
    said = ListenOptions(name, lane, queue, dead_letter_queue, own_principal)
    where = parse_source(source, selection_of(locals())) if source is not None else WEBHOOKS
    run = RunOptions(rate=parse_rate(rate))
    asking = dialogue(as_json=False)

    def print_line(line: str) -> None:
        typer.echo(line, err=True)

    with (
        interrupts(print_line, STOPPING) as interrupt,
        listening(
            settings, where, said, run, asking, stopped=lambda: interrupt.asked, print_line=print_line
        ) as listener,
    ):
        print_line(f"listening for {where.uri}: each hour is a run events-{name}-…")
        listener.run()
    heard = ", ".join(f"{count} {what}" for what, count in sorted(listener.counts.items()))
    print_line(heard or "no events came")
