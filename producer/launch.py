"""`tagmill run`: create or reopen a run, plan it, and follow it, with servers of our own or a fleet's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from tagmill.config.settings import Settings
from tagmill.producer.display import Display, duration, no_worker, open_display
from tagmill.producer.embedded import FOR_RUN, Embedded, embedded_servers
from tagmill.producer.follow import Follower, refilling
from tagmill.producer.interrupts import Interrupt, interrupts
from tagmill.producer.live import LiveRun
from tagmill.producer.modes import against_state
from tagmill.producer.planning import pass_planner, refuse_empty, reopen_source
from tagmill.producer.preparation import SANDBOX, RunOptions, clear, prepare
from tagmill.producer.reach import goes_on_here, open_board
from tagmill.producer.safety import SILENT, Dialogue
from tagmill.producer.sources.inventory_reports import report_age
from tagmill.producer.sources.opening import located, open_original
from tagmill.producer.sources.s3_client import listing_client
from tagmill.producer.sources.spec import SourceSpec
from tagmill.producer.state_dir import announce, refuse_second, state_dir
from tagmill.worker.background import Background
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.models import Json, canonical_hash
from tagmill.worker.pace import Pace
from tagmill.worker.s3 import store_client
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.store.opening import open_probed
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.probes import keep_probes
from tagmill.worker.store.runs import PLANNED, Control, Runs, RunSpec, Verb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DRAINING = "stopping: calls in flight finish; once more aborts them"
LEAVING = "leaving: the workers go on with it"
NO_CAPS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Launch:
    """One run and how it is to be worked on."""

    settings: Settings
    runs: Runs
    spec: RunSpec
    current: PassSpec
    is_new: bool = False

    def go(self, *, detach: bool) -> Json:
        """Return the summary when the run is completed, paused, cancelled or left."""
        if (listener := self.listener) is not None:
            board = self.board(listener)
            return LiveRun(self.runs.files, self.spec.run_id, board).summary()
        summary = self._embedded() if self.spec.embedded else self._fleet(detach=detach)
        if summary["state"] == "completed" and not summary["planned"] and not self.spec.is_incremental:
            raise NotFoundError(f"no images in {self.spec.source['uri']}")
        return summary

    @property
    def listener(self) -> str | None:
        """Return the Redis of who works on it here, without a fleet, while this command looks on."""
        here = goes_on_here(self.settings, self.spec)
        return here.redis_url if here is not None else None

    def announcement(self) -> str:
        """One line: what starts here, with what, how fast."""
        if self.current.number:
            return f"run {self.spec.run_id}: pass {self.current.number} ({self.current.kind})"
        write_back = ", ".join(self.spec.write_back) or "none"
        policy = f", policy: {canonical_hash(self.spec.policy)}" if self.spec.policy else ""
        return (
            f"run {self.spec.run_id}: {self._source()} with {self.spec.engine}{self._tasks()} at "
            f"{self.spec.planned_rate:g} calls/s or less, write-back: {write_back}{policy}{self._images()}"
        )

    def _images(self) -> str:
        if self.spec.source.get("all_versions"):
            return ", images: all, in every version"
        return f", images: {self.spec.mode}" if self.spec.is_incremental else ""

    def _source(self) -> str:
        """With the age that a report of S3 Inventory had when the run was made."""
        uri = self.spec.source["uri"]
        age = report_age(uri, datetime.fromisoformat(self.spec.created_at))
        return f"{uri}, {duration(age.total_seconds())} old," if age is not None else uri

    def _tasks(self) -> str:
        tasks = self.spec.tasks
        return f" ({', '.join(task.name for task in tasks.tasks)})" if tasks else ""

    def message(self) -> str | None:
        """What is said of a pause."""
        return self.runs.control(self.spec.run_id).message

    def passed_over(self) -> dict[str, int]:
        """Things of the source that are no images to tag, by reason; empty until planning is finished."""
        plan = Plan(self.runs.files, self.spec.run_id, 0).summary()
        return plan.skipped if plan else {}

    # --- embedded -----------------------------------------------------------------------------------------

    def _embedded(self) -> Json:
        with self._display() as display:
            print_line = display.print_line
            with embedded_servers(self.settings, self.spec, print_line) as embedded:
                announce(state_dir(self.settings.state_dir), self.spec.run_id, embedded.redis_url)
                board = self.board(embedded.redis_url)
                board.drop_queue()  # of an earlier run: its workers are gone, its messages are not wanted
                embedded.start_worker(FOR_RUN, self.spec.run_id)
                with interrupts(print_line, DRAINING, embedded.kill_worker) as interrupt:
                    summary = self._follow(board, embedded.redis_url, display, interrupt, embedded)
                    if interrupt.asked and summary["state"] == "running":
                        self._pause(board)
                    if not _is_over(summary):
                        embedded.stop_worker()  # a second Ctrl-C may come while it drains
                        summary = LiveRun(self.runs.files, self.spec.run_id, board).summary()
                if _is_over(summary):
                    embedded.kill_worker()  # it holds nothing any more, and Celery takes seconds to leave
                embedded.settle_budget(self.spec, self.runs)
                return summary

    def _pause(self, board: Board) -> None:
        pause = Control(verb=Verb.PAUSE, reason="interrupted", by="run", at=_now())
        board.note_control(self.spec.run_id, self.runs.set_control(self.spec.run_id, pause))

    # --- fleet --------------------------------------------------------------------------------------------

    def _fleet(self, *, detach: bool) -> Json:
        redis_url = self.settings.redis_url
        if redis_url is None:
            raise ConfigError("TAGMILL_REDIS_URL is not set, and this run belongs to a fleet")
        board = self.board(redis_url)
        if detach:
            with self.planner() as planner:
                planner.join()
            board.nudge(self.spec.run_id)
            if not board.workers(self.spec.lane):
                print(no_worker(self.spec.lane), file=sys.stderr)  # noqa: T201 - for the user, beside the summary
            return LiveRun(self.runs.files, self.spec.run_id, board).summary()
        with self._display() as display, interrupts(display.print_line, LEAVING) as interrupt:
            return self._follow(board, redis_url, display, interrupt, None)

    # --- both ---------------------------------------------------------------------------------------------

    def _follow(
        self, board: Board, redis_url: str, display: Display, interrupt: Interrupt, embedded: Embedded | None
    ) -> Json:
        display.waits = lambda: board.waits(self.spec.run_id)
        if embedded is None:
            lane = self.spec.lane
            display.trouble = lambda: None if board.workers(lane) else no_worker(lane)
        live = LiveRun(self.runs.files, self.spec.run_id, board)
        with (
            self.planner() as planner,
            refilling(
                self.runs,
                self.spec,
                board,
                redis_url=redis_url,
                redis_prefix=self.settings.redis_prefix,
                lease_seconds=self.settings.lease_seconds,
            ) as refill,
        ):
            return Follower(
                live,
                refill,
                display,
                interrupt=interrupt,
                nudge=partial(board.nudge, self.spec.run_id),
                check_planner=planner.raise_error,
                supervise=embedded.supervise if embedded else lambda: None,
            ).follow()

    def planner(self) -> Background:
        """Return what plans the pass at hand, not begun."""
        told = self.current.number == 0 and self.spec.open_until is not None
        if told or self.current.kind is PassKind.FOLLOWERS:
            return Background(lambda _: None, "planner")  # events plan it, or whoever refills does
        endpoint, list_workers = self.settings.s3_endpoint_url, self.settings.list_workers
        planner = pass_planner(
            self.runs,
            self.spec,
            self.current,
            lambda: listing_client(endpoint, list_workers),
            list_workers,
        )
        return Background(planner.run, "planner")

    def board(self, redis_url: str) -> Board:
        """Connect, and make Redis forget what it knew of the run before it was lifted from a pause."""
        board = open_board(self.settings, redis_url)
        if self.is_new:
            board.forget_run(self.spec.run_id)
        if self.current.number:
            board.announce_pass(self.spec.run_id)
        board.forget_failures(self.spec.run_id)
        board.note_control(self.spec.run_id, self.runs.control(self.spec.run_id))
        return board

    def _display(self) -> Display:
        return open_display(Pace(self.spec.planned_rate / self.spec.calls_per_image[1]))


def create_run(
    settings: Settings,
    source: SourceSpec,
    options: RunOptions,
    dialogue: Dialogue = SILENT,
    runs: Runs | None = None,
) -> Launch:
    """Raise `ConfigError` or `NotFoundError` before anything is written. `runs`: those of the run store."""
    source = located(source, lambda: listing_client(settings.s3_endpoint_url))
    spec = prepare(settings, source, options)
    if settings.redis_url is not None:
        connect_checked(settings.redis_url).close()
    else:
        refuse_second(state_dir(settings.state_dir))
    runs = runs or open_runs(settings)
    if not runs.is_free(spec.run_id):
        raise exists(spec.run_id)
    spec = against_state(runs.files, spec, source, options)
    if source.input is None:
        refuse_empty(reopen_source(runs, spec, lambda: listing_client(settings.s3_endpoint_url)))
    spec, probes = clear(settings, spec, source, dialogue)
    # First: without its whole list, a run could never be finished, and without this, not safely.
    copy_list(settings, runs, spec, source)
    keep_probes(runs.files, spec.run_id, probes)
    if not runs.create(spec):
        raise exists(spec.run_id)
    return Launch(settings, runs, spec, Passes(runs.files, spec.run_id).newest(), is_new=True)


def exists(run_id: str) -> ConfigError:
    return ConfigError(f"run {run_id} exists: go on with `tagmill run --resume {run_id}`")


def copy_list(settings: Settings, runs: Runs, spec: RunSpec, source: SourceSpec) -> None:
    """Raise `NotFoundError` for a list that names nothing."""

    def client() -> S3Client:
        return listing_client(settings.s3_endpoint_url)

    original = open_original(source, sys.stdin.buffer, client)
    if original is not None and source.input is not None:
        with original:
            runs.copy_input(spec.run_id, source.input.name, original)
        refuse_empty(reopen_source(runs, spec, client))


def reopen_run(settings: Settings, run_id: str, caps: Mapping[str, Any]) -> Launch:
    """Raise `NotFoundError`; lift a pause, and set what `caps` names anew."""
    runs = open_runs(settings)
    spec = runs.read(run_id)
    current = Passes(runs.files, run_id).newest()
    check_reopenable(settings, spec, current.kind)
    check_caps(spec, caps)
    lift_pause(runs, run_id, current, caps, anew=spec.embedded)
    return Launch(settings, runs, spec, current)


def check_caps(spec: RunSpec, caps: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a cap that would hold nothing."""
    if "max_cost" in caps and spec.price_per_1000 is None:
        raise ConfigError(f"run {spec.run_id} was started without a price: cap it with --max-calls")


def check_reopenable(settings: Settings, spec: RunSpec, kind: PassKind) -> None:
    """Raise `ConfigError` where this machine, as it is set up, cannot go on with the run."""
    run_id = spec.run_id
    if spec.embedded and settings.redis_url is not None:
        raise ConfigError(f"run {run_id} was started without a fleet: unset TAGMILL_REDIS_URL to go on")
    if not spec.embedded:
        return  # who asks the service there are the workers
    if kind.calls and spec.engine != SANDBOX and not settings.has_credentials:
        raise ConfigError("no Filestack credentials: set TAGMILL_FILESTACK_API_KEY and …_APP_SECRET")
    if spec.open_until is None or goes_on_here(settings, spec) is None:
        refuse_second(state_dir(settings.state_dir))


def lift_pause(
    runs: Runs, run_id: str, current: PassSpec, caps: Mapping[str, Any] = NO_CAPS, *, anew: bool
) -> None:
    """Let this pass go on, under these caps; `anew`: its time begins now, as nothing worked on it until now.

    Raise `ConfigError` for a cancelled run.
    """
    control = runs.control(run_id)
    refuse_cancelled(control, run_id, current)
    if control.reason == PLANNED:
        raise ConfigError(f"run {run_id} is planned: start it with `tagmill run --plan {run_id}`")
    if anew or caps or not control.running:
        now = _now()
        since = now if anew else ""
        runs.set_control(run_id, Control(verb=Verb.RESUME, by="run", at=now, since=since, **caps))


def refuse_cancelled(control: Control, run_id: str, intended: PassSpec) -> None:
    """Raise `ConfigError` for all that would go on with a cancelled run; what it wrote can be taken back."""
    if control.cancelled is None:
        return
    if intended.number <= control.cancelled or intended.kind is not PassKind.UNDO:
        raise ConfigError(f"run {run_id} was cancelled, for good: its rows can be exported and undone")


def _is_over(summary: Json) -> bool:
    return summary["state"] in {"completed", "cancelled"} and not summary["remaining"]


def open_runs(settings: Settings) -> Runs:
    return Runs(open_probed(settings.run_store, lambda: store_client(settings.s3_endpoint_url)))


def _now() -> str:
    return datetime.now(UTC).isoformat()
