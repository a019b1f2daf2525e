"""What people do to a run that goes on: pause, change, cancel; from any machine that reaches its files.

The control files say it; Redis is told so that workers hear of it within a second or two.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Self

import structlog

from tagmill.config.settings import Settings
from tagmill.producer.display import open_display
from tagmill.producer.follow import TICK_SECONDS, Follower, refilling
from tagmill.producer.interrupts import interrupts
from tagmill.producer.launch import check_caps, open_runs
from tagmill.producer.live import LiveRun
from tagmill.producer.reach import goes_on_here, open_board, reach
from tagmill.producer.redis_server import RedisServer
from tagmill.producer.state_dir import announce, locked, refuse_second, state_dir
from tagmill.worker.errors import ConfigError, RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.pace import Pace
from tagmill.worker.rate import Rate
from tagmill.worker.state.board import Board
from tagmill.worker.store.passes import Passes, PassSpec
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb, effective
from tagmill.worker.summary import finished

log = structlog.get_logger()

LEAVING = "leaving: whoever refills goes on; `tagmill cancel` again waits for it"
REQUESTED = "requested"  #: why a run is paused, when a person wanted it


@dataclass(frozen=True, slots=True)
class Steering:
    """One run, from outside."""

    settings: Settings
    runs: Runs
    spec: RunSpec
    current: PassSpec

    @classmethod
    def of(cls, settings: Settings, run_id: str) -> Self:
        """Raise `NotFoundError`."""
        runs = open_runs(settings)
        return cls(settings, runs, runs.read(run_id), Passes(runs.files, run_id).newest())

    @property
    def run_id(self) -> str:
        return self.spec.run_id

    def control(self) -> Control:
        return self.runs.control(self.run_id)

    def summary(self) -> Json:
        """Return where the run stands."""
        return LiveRun(self.runs.files, self.run_id, self._board()).summary()

    # --- pause, change ------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Calls in flight finish and are kept. Raise `ConfigError` for a run that is over."""
        self._refuse_over()
        who = _who()
        pause = Control(verb=Verb.PAUSE, reason=REQUESTED, message=f"paused by {who}", by=who, at=_now())
        self._note(self.runs.pause(self.run_id, pause))

    def change(
        self, caps: Mapping[str, Any], *, by: str | None = None, at: datetime | None = None
    ) -> RunSpec:
        """Set what `caps` names anew; return what holds now. Raise `ConfigError` for a run that is over."""
        self._refuse_over()
        check_caps(self.spec, caps)
        who, when = by or _who(), at.isoformat() if at else _now()
        said = {**caps, "by": who, "at": when, **({"rate_at": when} if "rate" in caps else {})}
        control = self.runs.change(self.run_id, lambda before: replace(before, **said))
        board = self._note(control)
        if board is not None:
            board.unpark(self.run_id)  # a chunk may wait for a permit that is nearer now
        return effective(self.spec, control)

    def raised(self, caps: Mapping[str, Any]) -> dict[str, str]:
        """Return those of `caps` that let it cost more than now, as `old to new`."""
        now = effective(self.spec, self.control())
        before = {name: getattr(now, name) for name in caps if name != "concurrency"}
        return {
            name: f"{old} to {caps[name]}"
            for name, old in before.items()
            if old is not None and _size(caps[name]) > _size(old)
        }

    def _note(self, control: Control) -> Board | None:
        """Tell workers at once; where that fails, they look into the files within some seconds."""
        board = self._board()
        if board is not None:
            board.note_control(self.run_id, control)
        return board

    # --- cancel -------------------------------------------------------------------------------------------

    def cancel(self) -> Json:
        """End the run for good, and wait until each of its images has its row.

        Raise `ConfigError` for one that is completed. A cancelled one is waited for again.
        """
        if not self.is_cancelled:
            self._refuse_over()
            self._refuse_unreachable()
            cancel = Control(verb=Verb.CANCEL, cancelled=self.current.number, by=_who(), at=_now())
            self._note(self.runs.set_control(self.run_id, cancel))
        return self._await_rows()

    @property
    def is_cancelled(self) -> bool:
        return self.control().of(self.current.number) is Verb.CANCEL

    def _await_rows(self) -> Json:
        live = LiveRun(self.runs.files, self.run_id, None)
        summary = live.summary()
        while not live.over and goes_on_here(self.settings, self.spec) is not None:
            time.sleep(TICK_SECONDS)  # its own process refills
            summary = live.summary()
        if live.over:
            return summary
        with self._redis() as url:
            return self._settle(open_board(self.settings, url), url)

    def _settle(self, board: Board, redis_url: str) -> Json:
        """Refill until the pass is finished."""
        if self.spec.embedded:
            board.drop_queue()  # nobody works on it: its leases are those of dead workers
        board.note_control(self.run_id, self.control())
        live = LiveRun(self.runs.files, self.run_id, board)
        with (
            open_display(Pace(self.spec.planned_rate)) as display,
            interrupts(display.print_line, LEAVING) as interrupt,
            refilling(
                self.runs,
                self.spec,
                board,
                redis_url=redis_url,
                redis_prefix=self.settings.redis_prefix,
                lease_seconds=self.settings.lease_seconds,
            ) as refill,
        ):
            nudge = partial(board.nudge, self.run_id)
            return Follower(live, refill, display, interrupt=interrupt, nudge=nudge).follow()

    @contextlib.contextmanager
    def _redis(self) -> Iterator[str]:
        """Yield the address of the run's Redis, which is started for a run that nobody works on."""
        if not self.spec.embedded:
            yield self._fleets_redis()
            return
        folder = state_dir(self.settings.state_dir)
        with locked(folder):
            server = RedisServer(folder / "redis")
            server.start()
            try:
                announce(folder, self.run_id, server.url)
                yield server.url
            finally:
                server.stop()

    def _refuse_unreachable(self) -> None:
        if not self.spec.embedded:
            self._fleets_redis()
        elif goes_on_here(self.settings, self.spec) is None:
            refuse_second(state_dir(self.settings.state_dir))

    def _fleets_redis(self) -> str:
        if self.settings.redis_url is None:
            raise ConfigError("TAGMILL_REDIS_URL is not set, and this run belongs to a fleet")
        return self.settings.redis_url

    # --- all ----------------------------------------------------------------------------------------------

    def _board(self) -> Board | None:
        try:
            return reach(self.settings, self.spec)
        except RedisUnavailableError as error:
            log.warning("redis_unavailable", error=str(error))
            return None

    def _refuse_over(self) -> None:
        if self.is_cancelled:
            raise ConfigError(f"run {self.run_id} was cancelled")
        if finished(self.runs.files, self.run_id, self.current.number):
            raise ConfigError(f"run {self.run_id} is completed")


def _size(cap: Any) -> Decimal | float:
    return Rate.parse(cap).per_second if "/" in str(cap) else Decimal(str(cap))


def _who() -> str:
    """Name who runs the command, for the control file."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user} on {socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat()
