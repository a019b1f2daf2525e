"""The one object that is asked before every paid call: every cap holds, whoever else draws from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from tagmill.worker.errors import BudgetExhaustedError
from tagmill.worker.limits import max_calls
from tagmill.worker.rate import Rate
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.limiter import PermitFarAway
from tagmill.worker.store.grants import Grants, Period
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.runs import Control, Runs, RunSpec, effective

Permit = tuple[str, ...]  #: one call, by the folders of the grants that it was drawn from
EVERYTHING = 10**12
LATE_SECONDS = 1.0  #: other clocks may be behind

log = structlog.get_logger()


@dataclass(slots=True)
class Cap:
    """So many calls in every period."""

    name: str  #: for people
    owner: str  #: folder of a run or an account in the run store
    period: Period
    mend: str  #: what to do when it is used up
    calls: int | None = None  #: None: no cap, but draws are counted all the same
    waits: bool = False  #: chunks wait for the next period as for a permit; otherwise the run stops

    def folder(self, now: datetime) -> str:
        """Return where the grants of this period are."""
        return f"{self.owner}/grants/{self.period.at(now)}"

    def used_up(self, now: datetime) -> BudgetExhaustedError | PermitFarAway:
        """Return what a lane is told that cannot have a call."""
        opens = self.period.end(now)
        if self.waits and opens is not None:
            return PermitFarAway((opens - now).total_seconds() + LATE_SECONDS)
        until = f" until {opens:%Y-%m-%d %H:%M} UTC" if opens else ""
        return BudgetExhaustedError(f"{self.name} of {self.calls} calls is used up{until}: {self.mend}")


class Budget:
    """Of one process, for one run."""

    def __init__(
        self,
        spec: RunSpec,
        runs: Runs,
        others: Sequence[Cap],
        open_grants: OpenGrants,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`others`: the caps beside the run's own."""
        self._spec, self._runs, self._open_grants, self._now = spec, runs, open_grants, now
        mend, owner = "resume it with a higher --max-calls or --max-cost", run_folder(spec.run_id)
        self._run = Cap("the run's cap", owner, Period.RUN, mend)
        self._run_day = Cap("the run's rate", owner, Period.DAY, "", waits=True)
        self._others = others
        self._caps: list[Cap] = []  #: empty until a control was heeded
        self._wanting = 0  #: lanes
        self._bringing: asyncio.Task[None] | None = None
        self._permit: Permit = ()
        self._sources: list[tuple[Cap, Grants]] = []  #: of such a permit
        self._told: set[str] = set()  #: folders of grants that are waited for
        self._spare = 0  #: such permits that were drawn, and whose call is not made

    def heed(self, control: Control) -> None:
        """Note the newest control of the run, which may have set its caps anew."""
        now = effective(self._spec, control)
        self._run.calls = max_calls(now)
        self._run_day.calls = Rate.parse(now.rate).per_day if now.rate else None
        own = [self._run] if self._run_day.calls is None else [self._run, self._run_day]
        self._caps = [*own, *self._others]

    async def draw(self) -> Permit:
        """Return when one call may be made; it counts as made, unless it is given back.

        Raise `BudgetExhaustedError`, or `PermitFarAway` for a cap that opens by itself.
        """
        self._wanting += 1
        try:
            while not self._spares():
                if self._bringing is None or self._bringing.done():
                    self._bringing = asyncio.create_task(self._bring())
                await asyncio.shield(self._bringing)  # for all lanes that wait, whichever of them is stopped
        finally:
            self._wanting -= 1
        self._spare -= 1
        return self._permit

    def give_back(self, permit: Permit) -> None:
        """Leave a call to another lane; it was certainly not sent."""
        if permit == self._permit:
            self._spare += 1

    def outdated(self, permit: Permit) -> bool:
        """Whether a period has ended since, so that the call would count in the next one."""
        return permit != self._permit_now()

    async def settle(self) -> None:
        """Put back into the files what is open, before this Redis goes."""
        await self._look()
        self._spares()
        for _, grants in self._sources:
            taken = await self._open_grants.take([grants.folder], [None], EVERYTHING)
            if taken.calls:
                await asyncio.to_thread(grants.give_back, taken.calls)

    def _spares(self) -> int:
        """Begin anew when a period has ended or a cap was added: what is spare is not drawn from it."""
        if (permit := self._permit_now()) != self._permit:
            self._permit, self._spare = permit, 0
            grants = [Grants(self._runs.files, folder) for folder in permit]
            self._sources = list(zip(self._caps, grants, strict=True))
        return self._spare

    def _permit_now(self) -> Permit:
        now = self._now()
        return tuple(cap.folder(now) for cap in self._caps)

    async def _bring(self) -> None:
        """Draw a call for each lane that waits, or open a grant where nothing is left."""
        if not self._caps:
            return await self._look()
        permit, sources = self._permit, self._sources
        caps = [cap.calls for cap, _ in sources]
        taken = await self._open_grants.take(permit, caps, self._wanting or 1)
        if taken.lacking is not None:
            await self._open(*sources[taken.lacking], taken.ticket)
        elif permit == self._permit:
            self._spare += taken.calls
        return None

    async def _open(self, cap: Cap, grants: Grants, ticket: bytes) -> None:
        if cap is self._run:
            await self._look()
        grant = await asyncio.to_thread(grants.open, cap.calls)
        if grant is None:
            raise self._used_up(cap, grants.folder)
        if not await self._open_grants.open(grants.folder, grant, ticket):
            log.warning("grant_lost", folder=grants.folder, calls=grant.calls)

    def _used_up(self, cap: Cap, folder: str) -> BudgetExhaustedError | PermitFarAway:
        now = self._now()
        if cap.waits and folder not in self._told:  # nothing else says why the run stands still
            self._told.add(folder)
            log.warning("rate_per_day_used_up", calls=cap.calls, goes_on_at=str(cap.period.end(now)))
        return cap.used_up(now)

    async def _look(self) -> None:
        self.heed(await asyncio.to_thread(self._runs.control, self._spec.run_id))
