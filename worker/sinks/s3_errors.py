"""The one place that reads botocore's failures: which are the moment's, the image's, the account's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from tagmill.worker.errors import (
    CredentialsError,
    SinkBusyError,
    SinkConflictError,
    SinkRejectedError,
    TaggingError,
)

#: From the S3 list of error codes; a HEAD has no body, so its code is the bare status.
MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "NotFound", "404"})
BUSY = frozenset({"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "503", "429"})
BAD_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
#: Client errors by number, but the moment's all the same.
PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
#: S3 waited for the rest of a request: a 400 by number.
TIMED_OUT = "RequestTimeout"
#: The request may have been carried out: a repeated write finds out.
NO_ANSWER = (aws.HTTPClientError, aws.ConnectionError, aws.IncompleteReadError, ResponseParserError)
NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)


class PreconditionFailedError(SinkConflictError):
    """412: the object is no longer the one we looked at."""

    code = "precondition"


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn botocore's failures into ours; nothing else looks at a status code."""
    try:
        yield
    except aws.ClientError as error:
        raise error_for(error, operation) from error
    except NO_CREDENTIALS as error:
        raise CredentialsError(
            f"{operation}: no AWS credentials; set them or give the host a role"
        ) from error
    except NO_ANSWER as error:
        raise SinkConflictError(f"{operation}: {type(error).__name__}", code="unavailable") from error
    except aws.BotoCoreError as error:  # refused before sending, such as a value that no header can carry
        raise SinkRejectedError(f"{operation} cannot be sent: {type(error).__name__}") from error


def error_for(error: aws.ClientError, operation: str) -> TaggingError:
    """An answer of S3 in our terms; its own text stays behind, it may quote the request."""
    code, status = error_code(error), _status(error)
    says = f"{operation} answered {status} {code}"
    if code in BAD_CREDENTIALS:
        return CredentialsError(f"{says}; renew the AWS credentials")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return PreconditionFailedError(says, http_status=status)
    if code in MISSING:
        return SinkRejectedError(f"{says}; the image is gone", code="missing", http_status=status)
    if _is_passing(code, status):
        return _passing_error(code, status, says)
    if status == HTTPStatus.FORBIDDEN:
        says = f"{says}; allow it (docs/write-back.md, Permissions)"
        return SinkRejectedError(says, code="forbidden", http_status=status)
    return SinkRejectedError(says, http_status=status)


def error_code(error: aws.ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "Unknown")


def _status(error: aws.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _is_passing(code: str, status: int) -> bool:
    """Also an error inside a 200, which S3 documents for CopyObject."""
    passing = status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.OK
    return passing or code in BUSY or code == TIMED_OUT


def _passing_error(code: str, status: int, says: str) -> SinkConflictError:
    if code in BUSY:
        return SinkBusyError(says, http_status=status)
    passing = "conflict" if status == HTTPStatus.CONFLICT else "unavailable"
    return SinkConflictError(says, code=passing, http_status=status)
