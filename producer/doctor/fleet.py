"""Redis and the run store: what workers share, and whether it is fit for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tagmill.producer.redis_server import find_redis_server
from tagmill.worker.check import Check
from tagmill.worker.errors import ConfigError
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.store.opening import open_probed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OLDEST_REDIS = (6, 2)


def check_redis(url: str | None) -> list[Check]:
    """Version, persistence, eviction and clock of the fleet's Redis, or which server a run would start."""
    if url is None:
        return [Check.of("redis", lambda: f"a run brings its own: {find_redis_server()}")]
    return [Check.of("redis", lambda: _look(url))]


def _look(url: str) -> str:
    """Cluster, eviction and clock are refused by `connect_checked`."""
    with connect_checked(url) as client:
        info = client.info()
        seconds, microseconds = client.time()
    version = str(info["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        raise ConfigError(f"redis-server {version} is too old; run 6.2 or newer")
    if not info.get("aof_enabled"):
        raise ConfigError(
            f"redis-server {version} keeps no append-only file: a restart would lose the journal of paid "
            "calls; set `appendonly yes`"
        )
    skew = seconds + microseconds / 1_000_000 - time.time()
    return f"redis-server {version}, append-only file, no eviction, clock {skew:+.1f} s"


def check_run_store(run_store: str, s3_client: Callable[[], S3Client]) -> Check:
    def look() -> str:
        return f"{open_probed(run_store, s3_client).location} creates files only where there are none"

    return Check.of("run store", look)
