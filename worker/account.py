"""Which account is paid for, how fast it may be called, and how often."""

from __future__ import annotations

import hashlib

from redis.asyncio import Redis

from tagmill.config.settings import Settings
from tagmill.worker.budget import Budget, Cap
from tagmill.worker.rate import Rate
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.connection import connect
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.grants import Period
from tagmill.worker.store.layout import account_folder
from tagmill.worker.store.runs import Runs, RunSpec

DEFAULT_RATE = Rate.parse("4/s")
DAY, MONTH = "the account's calls of this day", "the account's calls of this month"


def account_id(settings: Settings) -> str:
    """Hash of engine address and key: those who share it share its rate. No secret can be read from it."""
    key = settings.filestack_api_key.get_secret_value() if settings.filestack_api_key else ""
    return hashlib.sha256(f"{settings.filestack_cdn_url}\n{key}".encode()).hexdigest()[:16]


def account_rate(settings: Settings) -> Rate:
    return (settings.rate or DEFAULT_RATE).paced(DEFAULT_RATE)


def account_caps(settings: Settings) -> list[Cap]:
    """What the account may be called at most; a rate per day waits for the next one, a cap stops the run."""
    owner = account_folder(account_id(settings))
    caps = []
    by_rate, by_cap = account_rate(settings).per_day, settings.max_calls_per_day
    if by_rate is not None and (by_cap is None or by_rate <= by_cap):
        caps.append(Cap(DAY, owner, Period.DAY, "", by_rate, waits=True))
    elif by_cap is not None:
        caps.append(Cap(DAY, owner, Period.DAY, _mend("TAGMILL_MAX_CALLS_PER_DAY"), by_cap))
    if (by_month := settings.max_calls_per_month) is not None:
        caps.append(Cap(MONTH, owner, Period.MONTH, _mend("TAGMILL_MAX_CALLS_PER_MONTH"), by_month))
    return caps


def budget_for(settings: Settings, spec: RunSpec, runs: Runs, redis: Redis, keys: Keys) -> Budget:
    """Return what the run's calls on this account are drawn from."""
    return Budget(spec, runs, account_caps(settings), OpenGrants(redis, keys))


async def settle_budget(settings: Settings, spec: RunSpec, runs: Runs) -> None:
    """Put back what is open of the run's grants, before a private Redis goes."""
    if settings.redis_url is not None:
        async with connect(settings.redis_url) as redis:
            await budget_for(settings, spec, runs, redis, Keys(settings.redis_prefix)).settle()


def _mend(setting: str) -> str:
    return f"resume the run then, or raise {setting}"
