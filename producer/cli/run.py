"""`tagmill run`."""

from __future__ import annotations

from typing import Annotated

import typer

from tagmill.producer.cli.consent import dialogue
from tagmill.producer.cli.going import foresee, go
from tagmill.producer.cli.options import (
    AsJson,
    LogFormat,
    LogLevel,
    MaxCalls,
    MaxCost,
    MaxDuration,
    MaxFailureRate,
    RedisUrl,
    RunStore,
    StateDir,
    caps_of,
    parse_age,
    parse_rate,
    settings_of,
)
from tagmill.producer.cli.run_options import (
    AllowCopyEvents,
    AllowNewVersions,
    AllVersions,
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


def run(  # noqa: PLR0913 - an option each
    source: Annotated[
        str | None,
        typer.Argument(
            help="s3://…, inventory+s3://…, a folder, or a list of Filestack handles (`-`: stdin)."
        ),
    ] = None,
    *,
    resume: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Finish an earlier run.")] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="Tag exactly what `tagmill plan` has shown.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only plan, and say what it would take.")
    ] = False,
    run_id: Annotated[str | None, typer.Option(help="Name the run; else a name with the date.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Plan, then leave the work to the fleet.")] = False,
    shared_path: Annotated[
        bool, typer.Option("--shared-path", help="All workers see the folder at the same path.")
    ] = False,
    rate: Annotated[str | None, typer.Option(help="Calls, such as 20/s; a cap for this run.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Calls in flight per process.")] = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes, without a fleet.")] = None,
    engine: Annotated[str | None, typer.Option(help="filestack, filestack-workflow or sandbox.")] = None,
    workflow_id: WorkflowId = None,
    task_name: TaskName = None,
    write_back: WriteBack = None,
    sidecar_prefix: SidecarPrefix = None,
    probe: Probe = None,
    allow_new_versions: AllowNewVersions = None,
    allow_copy_events: AllowCopyEvents = None,
    force: Annotated[
        bool, typer.Option("--force", help="Pay also for what an earlier run has tagged.")
    ] = False,
    mode: Annotated[
        str | None, typer.Option(help="changed, missing or all: which images of a source tagged before.")
    ] = None,
    retag_older_than: Annotated[
        str | None, typer.Option(help="Ask anew for what was answered longer ago, such as 90d.")
    ] = None,
    dedupe: Annotated[
        str | None, typer.Option(help="off or exact: ask once for what has equal content.")
    ] = None,
    transfer: Transfer = None,
    keep_uploads: KeepUploads = None,
    policy: Policy = None,
    pipeline: Pipeline = None,
    list_workers: Annotated[int | None, typer.Option(help="Requests at once that list a bucket.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Images per Celery task.")] = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    price_per_1000: PricePer1000 = None,
    max_duration: MaxDuration = None,
    max_failure_rate: MaxFailureRate = None,
    include: Include = None,
    exclude: Exclude = None,
    extension: Extension = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    since: Annotated[str | None, typer.Option(help="Only what changed since this date or time.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images.")] = None,
    sample: Annotated[int | None, typer.Option(help="So many images, drawn at random.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sample; recorded, else drawn.")] = None,
    list_format: Annotated[str | None, typer.Option(help="txt, csv or jsonl, for a list of handles.")] = None,
    field: Annotated[str | None, typer.Option(help="CSV column or JSONL field with the handle.")] = None,
    all_versions: AllVersions = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Tag every image of SOURCE.

    Write the tags back, and leave a manifest.
    """
    settings = settings_of(locals() | {"rate": None})  # which is the account's; the option is the run's own
    if detach and settings.redis_url is None:
        raise ConfigError("--detach needs a fleet: set TAGMILL_REDIS_URL and start workers")
    from tagmill.producer.launch import create_run, reopen_run  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.planned import create_planned, reopen_planned, start_planned  # noqa: PLC0415 - as above
    from tagmill.producer.preparation import RunOptions  # noqa: PLC0415 - as above
    from tagmill.producer.sources.options import SourceOptions  # noqa: PLC0415 - as above
    from tagmill.producer.sources.spec import parse_source  # noqa: PLC0415 - as above

    selection = selection_of(locals())
    frozen = [engine, write_back, sidecar_prefix, dedupe, policy, pipeline, transfer, chunk_size]
    frozen += [keep_uploads, selection != SourceOptions(), rate, run_id, price_per_1000, shared_path, force]
    frozen += [mode, retag_older_than, workflow_id, task_name]
    age = parse_age("--retag-older-than", retag_older_than) if retag_older_than is not None else None
    options = RunOptions(parse_rate(rate), run_id, shared_path, force, mode, age)
    caps = {"max_calls": max_calls, "max_cost": max_cost, "max_duration": max_duration}
    said_caps = caps_of(settings, caps | {"max_failure_rate": max_failure_rate})
    asking = dialogue(as_json=as_json)
    if resume is not None:
        _refuse_any("--resume", source, plan, *frozen, probe, allow_new_versions, allow_copy_events)
        if dry_run:
            foresee(settings, reopen_planned(settings, resume), as_json=as_json)
        launch = reopen_run(settings, resume, said_caps)
    elif plan is not None:
        _refuse_any("--plan", source, dry_run, *frozen)
        launch = start_planned(settings, plan, asking, said_caps)
    elif source is None:
        raise ConfigError("name a SOURCE: s3://bucket/prefix, a folder, or a list of handles")
    else:
        spec = parse_source(source, selection)
        if dry_run:
            foresee(settings, create_planned(settings, spec, options), as_json=as_json)
        launch = create_run(settings, spec, options, asking)
    go(launch, detach=detach, as_json=as_json)


def _refuse_any(flag: str, *said: object) -> None:
    if any(value is not None and value is not False for value in said):
        raise ConfigError(f"{flag} goes on with what was planned: name no SOURCE, change only a cap")
