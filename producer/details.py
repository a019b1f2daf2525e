"""A run looked at closely: what goes wrong, how fast it goes, who works on it, what holds it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from tagmill.producer.live import LiveRun
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.state.board import Board
from tagmill.worker.state.insight import Hold
from tagmill.worker.state.pulse import Waits
from tagmill.worker.store.runs import CAPS, effective

T = TypeVar("T")


class Details:
    """One run; looked at again, it knows its pace better."""

    def __init__(self, live: LiveRun, board: Board | None) -> None:
        """`board` None: what only Redis knows is `null`."""
        self.live, self._board = live, board
        self._pace: Pace | None = None

    def look(self) -> Json:
        """Return the object that `tagmill status --details --json` prints."""
        live, summary = self.live, self.live.summary()
        control = live.control()
        going = summary["state"] == "running"
        waits = self._ask(lambda board: board.waits(live.run_id)) or Waits()
        account = waits.account if going else None
        return {
            "schema": SCHEMA,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": summary,
            "kind": live.current.kind.value,
            "lane": live.spec.lane,
            "source": live.spec.source.get("uri"),
            "created_at": live.spec.created_at,
            "planning": live.planning,
            "control": {name: getattr(control, name) or None for name in ("by", "at", "message")},
            "caps": {name: getattr(effective(live.spec, control), name) for name in CAPS},
            "errors": live.errors(),
            "pace": self._paced(summary, waits, going=going),
            "workers": self._ask(lambda board: _workers(board, live.run_id, live.spec.lane)),
            "limiter": account and self._ask(lambda board: _limiter(board, account)),
            "breaker": account and self._ask(lambda board: _breaker(board, account)),
            "foreign_messages": self._ask(lambda board: board.insight.foreign_messages()),
        }

    def _paced(self, summary: Json, waits: Waits, *, going: bool) -> Json:
        settled, duration = self.live.settled(), summary["duration_s"]
        pace = self._note(settled, waits) if going else Pace()
        measured = len(pace.samples) > 1
        return {
            "images_per_second": round(pace.per_second, 3) if measured else None,
            "average_per_second": round(settled / duration, 3) if duration else None,
            "limit_per_second": waits.limit if going else None,
            "limiter_share": round(pace.held_share, 3) if measured else None,
            "eta_s": _rounded(pace.eta_seconds(summary["remaining"])) if going else 0.0,
        }

    def _note(self, settled: int, waits: Waits) -> Pace:
        """Go on from what the refilling process noted."""
        if self._pace is None:
            number = self.live.current.number
            self._pace = self._ask(lambda board: board.pace(self.live.run_id, number)) or Pace()
        self._pace.limit_to(waits.limit)
        now = self._ask(lambda board: board.now()) or time.time()
        self._pace.note(Sample(now, settled, waits.held_seconds, waits.lane_seconds))
        return self._pace

    def _ask(self, read: Callable[[Board], T]) -> T | None:
        """Return None when there is no Redis, or it does not answer."""
        try:
            return read(self._board) if self._board is not None else None
        except RedisUnavailableError:
            return None


def _workers(board: Board, run_id: str, lane: str) -> list[Json]:
    """Live workers of its lane, and dead ones that still hold chunks of the run."""
    alive, held = board.workers(lane), board.insight.holds(run_id)
    names = sorted(alive.keys() | {hold.holder for hold in held})
    return [
        {
            "name": name,
            "alive": name in alive,
            "processes": alive.get(name, 0),
            "chunks": [_held(hold) for hold in held if hold.holder == name],
        }
        for name in names
    ]


def _held(hold: Hold) -> Json:
    return {"pass": hold.pass_no, "chunk": hold.chunk, "lease_s": round(hold.seconds, 1)}


def _limiter(board: Board, account: str) -> Json:
    now = board.insight.limiter(account)
    return {"blocked_s": round(now.blocked_seconds, 1), "share_of_rate": round(now.factor, 3)}


def _breaker(board: Board, account: str) -> Json:
    now = board.insight.breaker(account)
    since = now.open_since
    return {
        "open_since": since and datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
        "reason": now.reason,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
