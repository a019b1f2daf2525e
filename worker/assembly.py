"""Settings to working parts: engines, sinks, limiter and pipeline are built and closed here only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tagmill.config.settings import MAX_CONCURRENCY, Settings
from tagmill.worker.account import account_id, account_rate, budget_for
from tagmill.worker.behind import Behind
from tagmill.worker.canary import Canary
from tagmill.worker.chunks import ChunkLimits, ChunkRunner
from tagmill.worker.engine_config import NO_OPTIONS, WORKFLOW_ID
from tagmill.worker.engines.base import Engine
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.engines.filestack_service import FilestackOptions, OnLimit
from tagmill.worker.engines.filestack_tasks import FilestackTasks
from tagmill.worker.engines.filestack_urls import UrlForm
from tagmill.worker.engines.filestack_workflow import FilestackWorkflowEngine
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import ConfigError
from tagmill.worker.history import History
from tagmill.worker.models import Chunk, Handle, LocalFile, S3Object
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rate import Rate
from tagmill.worker.retry import RetryBudget, floor_per_second
from tagmill.worker.s3 import s3_client, store_client
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.sinks.base import Sink
from tagmill.worker.sinks.by_place import SinkByPlace
from tagmill.worker.sinks.s3_access import S3Access
from tagmill.worker.sinks.s3_annotation import S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.sinks.sidecar import SidecarSink
from tagmill.worker.sinks.store_sidecar import StoreSidecarSink
from tagmill.worker.state.breaker import Breaker
from tagmill.worker.state.connection import connect
from tagmill.worker.state.denials import Denials
from tagmill.worker.state.jobs import Jobs
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter, Share, account_scope, lane_scope
from tagmill.worker.state.turns import Turns
from tagmill.worker.store.opening import open_files
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.probes import Probes, read_probes
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.tagger import Tagger
from tagmill.worker.task_list import TASKS, TaskList
from tagmill.worker.transfer import Transfers
from tagmill.worker.undoing import Undoing
from tagmill.worker.workflow_jobs import WorkflowJobs
from tagmill.worker.writeback import WriteBack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LANE_SECONDS = 2.0  #: lanes for calls that take this long at the account's rate
MIN_LANES, MAX_LANES = 4, 64


class Assembly:
    """One worker process's parts, kept from chunk to chunk; used within one event loop."""

    def __init__(
        self, settings: Settings, *, processes: int, shutting_down: Callable[[], bool], worker: str = ""
    ) -> None:
        """`worker`: the name of the one whose process it is."""
        if settings.redis_url is None:
            raise ConfigError("TAGMILL_REDIS_URL is not set: a worker belongs to a fleet")
        self._settings, self._shutting_down, self._worker = settings, shutting_down, worker
        self._calls_per_second = account_rate(settings).per_second / processes
        self._keys = Keys(settings.redis_prefix)
        self._redis = connect(settings.redis_url)
        self.turns = Turns(self._redis, self._keys, worker)
        self._lanes = settings.concurrency or lanes_for(account_rate(settings), processes)
        self._files = open_files(
            settings.run_store, lambda: store_client(settings.s3_endpoint_url, connections=self._lanes)
        )
        self._runs = Runs(self._files)
        self._runners: dict[tuple[str, int], ChunkRunner] = {}
        self._open: list[Engine | Sink | Behind | Canary] = []

    async def run(self, chunk: Chunk) -> str:
        """Return what became of the chunk."""
        place = (chunk.run_id, chunk.pass_no)
        if place not in self._runners:
            spec = await asyncio.to_thread(self._runs.read, chunk.run_id)
            current = await asyncio.to_thread(Passes(self._files, chunk.run_id).read, chunk.pass_no)
            probes = await asyncio.to_thread(read_probes, self._files, chunk.run_id)
            known = probes.through(self._s3.meta.endpoint_url)
            self._runners[place] = self._runner(spec, current, known)
        return await self._runners[place].run(chunk)

    async def aclose(self) -> None:
        for part in self._open:
            await part.aclose()
        await self._redis.aclose()

    def _runner(self, spec: RunSpec, current: PassSpec, probes: Probes) -> ChunkRunner:
        settings = self._settings
        limits = ChunkLimits(
            settings.chunk_seconds, settings.lease_seconds, settings.outage_seconds, self._worker
        )
        return ChunkRunner(
            self._files,
            self._redis,
            self._keys,
            self._equipment(spec, current, probes),
            limits,
            spec=spec,
            plan=Plan(self._files, spec.run_id, current.number),
            shutting_down=self._shutting_down,
        )

    def _equipment(self, spec: RunSpec, current: PassSpec, probes: Probes) -> Equipment:
        account = account_id(self._settings)
        windows = [(account_scope(account), account_rate(self._settings))]
        share = Share(lane_scope(account, spec.lane), self._settings.share_of(spec.lane))
        limiter = Limiter(self._redis, self._keys, windows, account, share)
        engine = self._engine(spec, current.kind, limiter)
        transfers = Transfers(
            s3=self._s3,
            storage_alias=self._settings.filestack_storage_alias,
            upload=spec.transfer == "upload",
            epoch=datetime.fromisoformat(spec.created_at).timestamp(),
        )
        sinks = [self._sink(name, spec, probes) for name in spec.write_back]
        write_back = WriteBack(sinks, canary=self._canary(spec, probes))
        return Equipment(
            run_id=spec.run_id,
            kind=current.kind,
            policy=TagPolicy.from_json(current.policy),
            tagger=Tagger(engine, transfers, keep_uploads=spec.keep_uploads),
            write_back=write_back,
            undoing=Undoing(write_back, History(self._files)),
            limiter=limiter,
            breaker=Breaker(self._redis, self._keys, account),
            denials=Denials(self._redis, self._keys, spec.run_id),
            budget=budget_for(self._settings, spec, self._runs, self._redis, self._keys),
            retry_budget=RetryBudget(
                asyncio.get_running_loop().time(), floor_per_second(self._calls_per_second)
            ),
            lanes=self._lanes,
            behind=self._behind(spec, engine),
            jobs=self._jobs(spec, engine),
            force=spec.force,
            price_per_1000=spec.price_per_1000,
        )

    def _engine(self, spec: RunSpec, kind: PassKind, limiter: Limiter) -> Engine:
        if kind.calls and not self._settings.has_credentials:
            raise ConfigError(
                "this worker has no credentials: set TAGMILL_FILESTACK_API_KEY and …_APP_SECRET"
            )
        frozen = {"filestack_tags_version": spec.tags_version, "filestack_resize": spec.resize}
        settings = self._settings.model_copy(update=frozen)
        # Lanes may become more while the run goes on: the number of connections is a bound only.
        options = filestack_options(settings, spec.engine, spec.engine_options, connections=MAX_CONCURRENCY)
        engine = open_engine(options, limiter.throttled)
        self._open.append(engine)
        return engine

    def _jobs(self, spec: RunSpec, engine: Engine) -> WorkflowJobs | None:
        if not isinstance(engine, FilestackWorkflowEngine):
            return None
        hints, workflow_id = Jobs(self._redis, self._keys), spec.engine_options[WORKFLOW_ID]
        return WorkflowJobs(engine, hints, self._files, workflow_id, spec.job_deadline)

    def _behind(self, spec: RunSpec, engine: Engine) -> Behind | None:
        if not (spec.filestack_buckets and spec.write_back):
            return None
        behind = Behind(engine, S3Access(self._s3, lanes=self._lanes), spec.filestack_buckets)
        self._open.append(behind)
        return behind

    def _canary(self, spec: RunSpec, probes: Probes) -> Canary:
        canary = Canary(self._s3, spec.run_id, probes.of)
        self._open.append(canary)
        return canary

    def _sink(self, name: str, spec: RunSpec, probes: Probes) -> Sink:
        sink = self._new_sink(name, spec, probes)
        self._open.append(sink)
        return sink

    def _new_sink(self, name: str, spec: RunSpec, probes: Probes) -> Sink:
        match name:
            case "metadata":
                return S3MetadataSink(self._s3, lanes=self._lanes, known=probes.of)
            case "tags":
                return S3TagsSink(self._s3, lanes=self._lanes)
            case "annotation":
                return S3AnnotationSink(self._s3, lanes=self._lanes, proven=probes.prove_annotations)
            case "sidecar":
                prefix = SidecarPrefix.parse(spec.sidecar_prefix)
                in_s3 = S3SidecarSink(self._s3, lanes=self._lanes, prefix=prefix)
                of_handles = StoreSidecarSink(self._files)
                return SinkByPlace(name, {LocalFile: SidecarSink(), S3Object: in_s3, Handle: of_handles})
        raise ConfigError(
            f"run {spec.run_id} writes to {name!r}, which this worker does not know; upgrade it"
        )

    @cached_property
    def _s3(self) -> S3Client:
        return s3_client(self._settings.s3_endpoint_url, connections=self._lanes, retries=0)


def open_engine(options: FilestackOptions, on_limit: OnLimit) -> Engine:
    """Return the engine that the options are for."""
    if WORKFLOW_ID in options.config:
        return FilestackWorkflowEngine(options, on_limit=on_limit)
    if TASKS in options.config:
        return FilestackTasks(TaskList.from_json(options.config[TASKS]), options, on_limit=on_limit)
    return FilestackEngine(options, on_limit=on_limit)


def filestack_options(
    settings: Settings, name: str, config: Mapping[str, Any] = NO_OPTIONS, *, connections: int
) -> FilestackOptions:
    """`config`: a run's `engine_options`. Without credentials they are good for no engine."""
    key, secret = settings.filestack_api_key, settings.filestack_app_secret
    return FilestackOptions(
        api_key=key.get_secret_value() if key else "",
        app_secret=secret.get_secret_value() if secret else "",
        name=name,
        cdn_url=settings.filestack_cdn_url,
        api_url=settings.filestack_api_url,
        call_timeout_seconds=settings.call_timeout,
        connections=connections,
        tags_version=settings.filestack_tags_version,
        resize_height=settings.filestack_resize,
        url_form=UrlForm(settings.filestack_url_form),
        config=config,
    )


def lanes_for(rate: Rate, processes: int) -> int:
    """Return calls in flight per process that keep the rate busy at two seconds a call."""
    wanted = int(rate.per_second * LANE_SECONDS / processes) + 1
    return max(MIN_LANES, min(MAX_LANES, wanted))
