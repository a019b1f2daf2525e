"""An S3 client for listings: any endpoint, and timestamps that cost little."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ISO_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z")


def listing_client(endpoint_url: str | None = None, *, region: str | None = None) -> S3Client:
    """Credentials and region by AWS' standard chain; an endpoint of one's own is addressed by path.

    Raise `ConfigError` for an endpoint that is no URL.
    """
    if endpoint_url and not endpoint_url.startswith(("http://", "https://")):
        raise ConfigError("the S3 endpoint must begin with http:// or https://")
    session = botocore.session.get_session()
    # botocore's own parser takes more than half of the time of a listing (docs/sources.md).
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=quick_timestamp)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        s3={"addressing_style": "path"} if endpoint_url else None,
    )
    return boto3.Session(botocore_session=session, region_name=region).client(
        "s3", endpoint_url=endpoint_url, config=config
    )


def quick_timestamp(value: Any) -> datetime:
    """What botocore's parser answers, in UTC; the form that listings have without its detours."""
    if isinstance(value, str) and _ISO_UTC.fullmatch(value):
        return datetime.fromisoformat(value)
    return parse_timestamp(value)
