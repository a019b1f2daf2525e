"""botocore's failures while the producer lists or writes, as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore names it so
    CredentialRetrievalError,
    HTTPClientError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from tagmill.worker.errors import ConfigError, NotFoundError, RunError, TaggingError

SOURCE_CODE = "source"  #: the code of a failure in the middle of a listing
TEMPORARY = frozenset({408, 425, 429})  #: with 500 and above: statuses that are the moment's


@dataclass(frozen=True, slots=True)
class Doing:
    """What was wanted of the bucket, and what permits it."""

    verb: str
    permission: str


LIST = Doing("list", "s3:ListBucket")
WRITE = Doing("write to", "s3:PutObject")

_CREDENTIALS_RULE = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run where a role is attached"
)
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

#: Error code -> what it means here (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
_REFUSALS: dict[str, tuple[type[ConfigError], str]] = {
    **dict.fromkeys(
        ("NoSuchBucket", "404"),
        (NotFoundError, "no bucket {bucket!r} at this endpoint: check its name and the endpoint"),
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "403"),
        (ConfigError, "not allowed to {verb} bucket {bucket!r} ({code}): grant {permission} on it"),
    ),
    **dict.fromkeys(
        (
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ),
        (ConfigError, f"S3 refused the credentials ({{code}}): {_CREDENTIALS_RULE}"),
    ),
    "RequestTimeTooSkewed": (ConfigError, "S3 refused the request's time ({code}): set this machine's clock"),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"),
        (ConfigError, "bucket {bucket!r} is in another region ({code}): set AWS_REGION to it"),
    ),
}


@contextmanager
def translated(bucket: str, *, started: bool, doing: Doing = LIST) -> Iterator[None]:
    """`started`: something was listed already, so a failure is no longer one of configuration."""
    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        ours = _translate(error, bucket, doing)
        if started and isinstance(ours, ConfigError):
            ours = RunError(str(ours), code=SOURCE_CODE)
        raise ours from None  # botocore's own texts hold account names and whole URLs


def _translate(error: Exception, bucket: str, doing: Doing) -> TaggingError:
    name = type(error).__name__
    if isinstance(error, ClientError):
        return _refusal(error, bucket, doing)
    if isinstance(error, _NO_CREDENTIALS):
        return ConfigError(f"no usable AWS credentials ({name}): {_CREDENTIALS_RULE}")
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return ConfigError(f"cannot reach S3{_place(error)} ({name}): check the endpoint and the network")
    if isinstance(error, ResponseParserError):
        return ConfigError(f"what answered for bucket {bucket!r} is not S3: check the endpoint")
    return ConfigError(f"cannot {doing.verb} bucket {bucket!r}: {name}")


def _refusal(error: ClientError, bucket: str, doing: Doing) -> TaggingError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code") or str(status)
    if status >= 500 or status in TEMPORARY:  # noqa: PLR2004 - where HTTP's server errors begin
        said = f"S3 cannot {doing.verb} bucket {bucket!r} at the moment ({code})"
        return RunError(f"{said}: try again later, or check the endpoint", code=SOURCE_CODE)
    kind, text = _REFUSALS.get(code, (ConfigError, "cannot {verb} bucket {bucket!r}: S3 answered {code}"))
    return kind(text.format(bucket=bucket, code=code, verb=doing.verb, permission=doing.permission))


def _place(error: BotoCoreError) -> str:
    """Host and port only: the rest of the URL can hold credentials."""
    host = urlsplit(str(error.kwargs.get("endpoint_url", ""))).netloc.rpartition("@")[2]
    return f" at {host}" if host else ""
