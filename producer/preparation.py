"""From what the user asked for to a frozen run: which engine, where tags go, and what is refused."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import structlog

from tagmill.config.celery import QUEUE
from tagmill.config.settings import Settings
from tagmill.producer.modes import check_mode
from tagmill.producer.pipeline_file import NO_PIPELINE, Pipeline, read_pipeline
from tagmill.producer.policy_file import read_policy
from tagmill.producer.safety import EFFECTS, Clearance, Dialogue
from tagmill.producer.sources.s3_client import listing_client
from tagmill.producer.sources.s3_errors import WRITE, translated
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.worker.account import DEFAULT_RATE
from tagmill.worker.engine_config import FILESTACK_WORKFLOW, TASK_NAME, WORKFLOW_ID
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rate import Rate
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.store.probes import Probes
from tagmill.worker.store.runs import RunSpec

FILESTACK, SANDBOX = "filestack", "sandbox"
SANDBOX_RATE = Rate.parse("100/s")
_DEFAULT_WRITE_BACK = {Kind.S3: ("metadata",), Kind.FOLDER: ("sidecar",), Kind.HANDLES: ()}
_OF_S3 = {"metadata", "tags", "annotation", "sidecar"}
_SINKS = {Kind.S3: _OF_S3, Kind.FOLDER: {"sidecar"}, Kind.HANDLES: {"sidecar"}}
_PLAIN_FORMS = {"raw", "quoted"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is said for one run only."""

    rate: Rate | None = None
    run_id: str | None = None
    shared_path: bool = False
    force: bool = False
    mode: str | None = None  #: which images of a source that is known; None: what fits
    retag_older_than: float | None = None  #: seconds
    lane: str = QUEUE


def choose_engine(settings: Settings, kind: Kind, *, asks: bool = True) -> str:
    """Raise `ConfigError` where an engine would have to be guessed at a price; `asks`: it will be asked."""
    if settings.engine == SANDBOX:
        if settings.redis_url is not None:
            raise ConfigError(
                "a fleet has no embedded sandbox: start `tagmill sandbox` and set TAGMILL_FILESTACK_CDN_URL, "
                "TAGMILL_FILESTACK_API_URL, key and secret to its own"
            )
        return SANDBOX
    if settings.has_credentials:
        return settings.engine or FILESTACK
    if settings.engine is None and kind is Kind.FOLDER and settings.redis_url is None:
        return SANDBOX
    if not asks:
        return settings.engine or FILESTACK
    raise ConfigError(
        "no Filestack credentials: set TAGMILL_FILESTACK_API_KEY and TAGMILL_FILESTACK_APP_SECRET, "
        "or try it with --engine sandbox"
    )


def choose_engine_options(settings: Settings, engine: str, pipeline: Pipeline) -> Json:
    """What its answers depend on. Raise `ConfigError` for what an engine lacks, or has no use for."""
    given = {WORKFLOW_ID: settings.workflow_id, TASK_NAME: settings.task_name}
    options = {name: value for name, value in given.items() if value is not None}
    if engine == FILESTACK_WORKFLOW and WORKFLOW_ID not in options:
        raise ConfigError(f"--engine {engine} needs the id of a Workflow: say --workflow-id")
    if engine != FILESTACK_WORKFLOW and options:
        flag = min(options).replace("_", "-")
        raise ConfigError(f"--{flag} is for --engine {FILESTACK_WORKFLOW}, this is {engine}")
    if engine == FILESTACK_WORKFLOW and pipeline.tasks.tasks:
        raise ConfigError(f"--engine {engine} has tasks of its own: leave out --pipeline, or the engine")
    return options | pipeline.engine_options


def choose_write_back(settings: Settings, kind: Kind, engine: str) -> tuple[str, ...]:
    """The sandbox's tags stay out of buckets unless asked for."""
    behind = kind is Kind.HANDLES and settings.filestack_buckets is not None
    if settings.write_back is None:
        trial = engine == SANDBOX and kind is not Kind.FOLDER
        return () if trial else _DEFAULT_WRITE_BACK[Kind.S3 if behind else kind]
    chosen = () if settings.write_back == "none" else tuple(settings.write_back.split(","))
    _check_write_back(chosen, kind, _OF_S3 if behind else _SINKS[kind])
    return chosen


def _check_write_back(chosen: tuple[str, ...], kind: Kind, sinks: set[str]) -> None:
    for name in chosen:
        if name not in sinks:
            allowed = " or ".join(sorted(sinks | {"none"}))
            hint = "; others need TAGMILL_FILESTACK_BUCKETS" if kind is Kind.HANDLES else ""
            raise ConfigError(
                f"--write-back {name} is not for this source ({kind.value}): use {allowed}{hint}"
            )


def choose_sidecar_prefix(settings: Settings, kind: Kind) -> str | None:
    """Raise `ConfigError` for one that cannot be meant."""
    SidecarPrefix.parse(settings.sidecar_prefix)
    return settings.sidecar_prefix if kind is not Kind.FOLDER else None


def choose_dedupe(settings: Settings, kind: Kind) -> str:
    if settings.dedupe != "off" and kind is Kind.HANDLES:
        raise ConfigError("a list of handles says nothing of content: --dedupe is for S3 and folders")
    return settings.dedupe


def choose_policy(settings: Settings, pipeline: Pipeline) -> TagPolicy:
    """Return what the policy's file says, with the rules of both files."""
    policy = read_policy(settings.policy) if settings.policy else TagPolicy()
    return replace(policy, rules=(*policy.rules, *pipeline.rules))


def refuse_private_folder(settings: Settings, kind: Kind, *, shared_path: bool) -> None:
    if kind is Kind.FOLDER and settings.redis_url is not None and not shared_path:
        raise ConfigError(
            "a fleet's workers do not see a local folder: say --shared-path if all have it at the same path, "
            "or unset TAGMILL_REDIS_URL"
        )


def refuse_parts_of_versions(settings: Settings, source: SourceSpec) -> None:
    if source.all_versions and not source.is_inventory and settings.list_workers > 1:
        raise ConfigError(
            "--all-versions lists one page after the other: leave out --list-workers, and unset "
            "TAGMILL_LIST_WORKERS"
        )


def refuse_unwritable_links(settings: Settings, source: SourceSpec) -> None:
    """A signed link has a query, which the plain forms of an address cannot carry: every image would fail."""
    by_alias = settings.filestack_storage_alias is not None and not source.all_versions
    by_link = not by_alias and settings.transfer == "auto"
    if source.kind is Kind.S3 and by_link and settings.filestack_url_form in _PLAIN_FORMS:
        alias = "" if source.all_versions else ", set TAGMILL_FILESTACK_STORAGE_ALIAS"
        raise ConfigError(
            f"TAGMILL_FILESTACK_URL_FORM {settings.filestack_url_form} cannot carry the signed links of S3 "
            f"objects: use percent or b64{alias}, or say --transfer upload"
        )


def account_rate(settings: Settings, engine: str, run: Rate | None) -> Rate:
    """Return the account's rate, with a pace.

    Alone, a run's rate stands in for an account's that nobody set; a fleet's workers keep their own.
    """
    default = SANDBOX_RATE if engine == SANDBOX else DEFAULT_RATE
    stand_in = run if settings.redis_url is None else None
    return (settings.rate or stand_in or default).paced(default)


def prepare(settings: Settings, source: SourceSpec, options: RunOptions, *, asks: bool = True) -> RunSpec:
    """Raise `ConfigError` for what must not start; without `asks` it need not have credentials."""
    refuse_private_folder(settings, source.kind, shared_path=options.shared_path)
    refuse_unwritable_links(settings, source)
    refuse_parts_of_versions(settings, source)
    check_mode(source, options.mode, options.retag_older_than)
    if settings.max_cost is not None and settings.price_per_1000 is None:
        raise ConfigError("a cap on the cost needs a price: set TAGMILL_PRICE_PER_1000 or --price-per-1000")
    engine = choose_engine(settings, source.kind, asks=asks)
    pipeline = read_pipeline(settings.pipeline) if settings.pipeline else NO_PIPELINE
    engine_options = choose_engine_options(settings, engine, pipeline)
    by_task = engine != FILESTACK_WORKFLOW  # else the Workflow says how tags are made
    rates = [options.rate, account_rate(settings, engine, options.rate)]
    now = datetime.now(UTC)
    return RunSpec(
        run_id=options.run_id or new_run_id(now),
        created_at=now.isoformat(),
        source=source.to_json(),
        engine=engine,
        write_back=choose_write_back(settings, source.kind, engine),
        rate=str(options.rate) if options.rate else None,
        transfer=settings.transfer,
        keep_uploads=settings.keep_uploads,
        tags_version=pipeline.tags_version or settings.filestack_tags_version if by_task else None,
        resize=settings.filestack_resize if by_task else None,
        engine_options=engine_options,
        policy=choose_policy(settings, pipeline).to_json(),
        shard_size=settings.shard_size,
        chunk_size=settings.chunk_size,
        embedded=settings.redis_url is None,
        planned_rate=min(rate.per_second for rate in rates if rate is not None),
        force=options.force,
        max_calls=settings.max_calls,
        max_cost=_text(settings.max_cost),
        price_per_1000=_text(settings.price_per_1000),
        max_duration=settings.max_duration,
        max_failure_rate=settings.max_failure_rate,
        failure_sample=settings.failure_sample,
        sidecar_prefix=choose_sidecar_prefix(settings, source.kind),
        filestack_buckets=tuple(settings.filestack_buckets.split(",")) if settings.filestack_buckets else (),
        dedupe=choose_dedupe(settings, source.kind),
        job_seconds=None if by_task else settings.job_seconds,
        job_deadline=settings.job_deadline,
        lane=options.lane,
    )


def clear(
    settings: Settings, spec: RunSpec, source: SourceSpec, dialogue: Dialogue, *, listed: bool = True
) -> tuple[RunSpec, Probes]:
    """Settle what the write-back may do to buckets, and what their servers can. Raise `ConfigError`.

    `listed`: the run's images are there already.
    """
    _find_sidecar_bucket(settings, spec)
    clearance = replace(clearance_of(settings, spec, source), listed=listed)
    if not clearance.needed:
        return spec, Probes()
    client = listing_client(settings.s3_endpoint_url)
    consent = clearance.consent(client, dialogue)
    probes = clearance.probe(client, client.meta.endpoint_url, trying=settings.probe == "auto")
    warnings = probes.warnings(spec.write_back)
    for warning in warnings:
        log.warning("write_back_limited", run_id=spec.run_id, warning=warning)
    return replace(spec, consent=consent, warnings=warnings), probes


def clearance_of(settings: Settings, spec: RunSpec, source: SourceSpec) -> Clearance:
    return Clearance(
        spec.write_back,
        places=_places(spec, source),
        allowed=[effect for effect in EFFECTS if getattr(settings, f"allow_{effect}")],
        at_most=min(filter(None, [source.limit, source.sample]), default=None),
    )


def _find_sidecar_bucket(settings: Settings, spec: RunSpec) -> None:
    bucket = SidecarPrefix.parse(spec.sidecar_prefix).bucket
    if bucket is not None and "sidecar" in spec.write_back:
        with translated(bucket, started=False, doing=WRITE):
            listing_client(settings.s3_endpoint_url).head_bucket(Bucket=bucket)


def _places(spec: RunSpec, source: SourceSpec) -> list[tuple[str, str]]:
    """Return where the images lie that are written to: buckets, and what their keys begin with."""
    if source.kind is Kind.S3:
        return [(source.bucket, source.prefix)]
    return [(bucket, "") for bucket in spec.filestack_buckets if source.kind is Kind.HANDLES]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def new_run_id(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
