"""When a call may leave: the breaker, the shares of retries, the budget, the limiter; the order is theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tagmill.worker.budget import Permit
from tagmill.worker.equipment import Equipment
from tagmill.worker.state.limiter import PermitFarAway
from tagmill.worker.waiting import NotNowError, Waiting

MAX_WAIT_SECONDS = 15.0  #: a permit, a probe or a retry further away parks the chunk


class Admission:
    """Of one chunk's lanes. Raises `NotNowError` when the chunk stops, `PermitFarAway` when it is to stop."""

    def __init__(
        self,
        kit: Equipment,
        waiting: Waiting,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._kit, self._while_running = kit, waiting.while_running
        self._clock, self._sleep = clock, sleep
        self._quiet_until = float("-inf")  # by `clock`

    def keep_quiet(self, seconds: float) -> None:
        """Admit none for so long, as throttling asks for."""
        self._quiet_until = max(self._quiet_until, self._clock() + seconds)

    async def enter(self, *, again: bool) -> None:
        """Wait while the account is not to be called; a retry also needs a share of the retry budget.

        This comes before an upload, which is no paid call but loads the same service.
        """
        if not again:
            self._kit.retry_budget.first_attempt()
        elif (wait := self._kit.retry_budget.take(self._clock())) > 0:
            raise NotNowError(wait)
        await self.service_open()

    async def service_open(self) -> None:
        """Wait while throttling or the breaker forbids requests of any kind."""
        while (wait := await self._closed_for()) > 0:
            if wait > MAX_WAIT_SECONDS:
                raise PermitFarAway(wait)
            await self._while_running(lambda: self._sleep(wait))

    async def open_now(self) -> bool:
        return await self._closed_for() == 0

    async def turn(self) -> None:
        """Wait for the turn of a request that is no paid call."""
        await self.service_open()
        await self._while_running(lambda: self._kit.limiter.acquire(MAX_WAIT_SECONDS))

    async def permit(self) -> Permit:
        """Draw a call from the budget, and wait for its turn. Raise `BudgetExhaustedError`, too."""
        budget, limiter = self._kit.budget, self._kit.limiter
        permit = await self._while_running(budget.draw)
        try:
            await self._while_running(lambda: limiter.acquire(MAX_WAIT_SECONDS))
        except BaseException:
            budget.give_back(permit)
            raise
        return await self._while_running(budget.draw) if budget.outdated(permit) else permit

    async def _closed_for(self) -> float:
        """Return the seconds for which throttling or the breaker forbids calls."""
        if (quiet := self._quiet_until - self._clock()) > 0:
            return quiet
        return await self._while_running(self._kit.breaker.admit)
