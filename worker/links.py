"""Presigned links to S3 objects that stay equal for a while: the CDN answers a repeated URL for free."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.signers import RequestSigner

from tagmill.worker.contents import address, reading
from tagmill.worker.models import S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WINDOW_SECONDS = 6 * 3600.0
MAX_LIFE_SECONDS = 7 * 86_400  #: S3's limit for a presigned URL


class Links:
    """GET URLs dated to the start of a window and good for two windows: at least one is always left.

    `epoch`, in Unix seconds, is where a window begins. With temporary credentials a link lives, and stays
    the same, only as long as they do.
    """

    def __init__(
        self,
        s3: S3Client,
        *,
        epoch: float = 0.0,
        window_seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._s3, self._epoch, self._window_seconds, self._clock = s3, epoch, window_seconds, clock
        self.life_seconds = min(int(2 * window_seconds), MAX_LIFE_SECONDS)
        _hook(s3)

    def url(self, image: S3Object) -> str:
        """A bearer secret. Blocks when credentials have to be fetched; raises like `read_object`."""
        with _stamped(Stamp(self._date(), self.life_seconds)), reading():
            return self._s3.generate_presigned_url("get_object", Params=address(image))

    def _date(self) -> str:
        elapsed = self._clock() - self._epoch
        start = self._epoch + elapsed // self._window_seconds * self._window_seconds
        return datetime.fromtimestamp(start, UTC).strftime(SIGV4_TIMESTAMP)


# --- botocore signs for the present moment; its events let us sign in its place ----------------------------


class Stamp(NamedTuple):
    date: str
    life_seconds: int


_stamp: ContextVar[Stamp | None] = ContextVar("stamp", default=None)  # set while one of our links is made


@contextmanager
def _stamped(stamp: Stamp) -> Iterator[None]:
    token = _stamp.set(stamp)
    try:
        yield
    finally:
        _stamp.reset(token)


def _hook(s3: S3Client) -> None:
    """Once for a client, however often it is called; links that are not ours are made as ever."""
    events = s3.meta.events
    events.register_first("before-parameter-build.s3.GetObject", _stay_in_region, "tagmill-region")
    events.register_first("choose-signer.s3.GetObject", _leave_unsigned, "tagmill-unsigned")  # type: ignore[arg-type]  # the stubs know no handler that answers
    events.register_last("before-sign.s3.GetObject", _sign, "tagmill-sign")


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """The global endpoint, botocore's choice for links, redirects for the first day of a bucket elsewhere."""
    if _stamp.get() is not None:
        context["use_global_endpoint"] = False


def _leave_unsigned(**_: Any) -> object:
    return None if _stamp.get() is None else botocore.UNSIGNED


def _sign(
    request: AWSRequest, signing_name: str, region_name: str, request_signer: RequestSigner, **_: Any
) -> None:
    stamp = _stamp.get()
    if stamp is None:
        return
    signing = request.context.get("signing", {})
    name, region = signing.get("signing_name", signing_name), signing.get("region", region_name)
    credentials = request_signer.get_auth_instance(name, region, "s3v4-query").credentials
    _StampedAuth(credentials, name, region, stamp).add_auth(request)


class _StampedAuth(S3SigV4QueryAuth):
    def __init__(self, credentials: ReadOnlyCredentials, name: str, region: str, stamp: Stamp) -> None:
        super().__init__(credentials, name, region, expires=stamp.life_seconds)
        self._date = stamp.date

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        """The date was set to the present just before; every later step reads it from here."""
        request.context["timestamp"] = self._date
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in the stubs
