"""S3 clients, all made alike: bounded waits, no hidden retries, safe on compatible servers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
STORE_RETRIES = 4


def s3_client(
    endpoint_url: str | None,
    *,
    connections: int,
    retries: int,
    session: botocore.session.Session | None = None,
) -> S3Client:
    """A client for `connections` threads; credentials and region come from AWS' standard chain.

    `retries` is 0 where the caller repeats failed requests itself: retry layers multiply.
    """
    config = Config(
        max_pool_connections=connections,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": retries + 1},
        user_agent_extra="tagmill",
    )
    if endpoint_url is not None:
        config = config.merge(_COMPATIBLE)
    session = session or botocore.session.get_session()
    try:
        session.register_component("data_loader", _models())
        owner = boto3.session.Session(botocore_session=session)
        return owner.client("s3", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"S3 cannot be reached as configured: {error}") from None


@cache
def _models() -> Loader:
    """Shared by all clients: reading the models is most of the cost of one."""
    loader: Loader = botocore.session.get_session().get_component("data_loader")
    return loader


def store_client(endpoint_url: str | None, *, connections: int = STORE_RETRIES) -> S3Client:
    """A client for the run store, which nobody else repeats requests for."""
    return s3_client(endpoint_url, connections=connections, retries=STORE_RETRIES)


#: Servers other than AWS often know neither buckets as host names nor the checksums that botocore adds
#: to uploads since 1.36.
_COMPATIBLE = Config(
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
