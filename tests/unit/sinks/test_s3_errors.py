from __future__ import annotations

import inspect

import pytest
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from tagmill.worker.errors import (
    CredentialsError,
    SinkBusyError,
    SinkConflictError,
    SinkRejectedError,
    TaggingError,
)
from tagmill.worker.sinks.s3_errors import PreconditionFailedError, error_for, translated

SECRET = "secret-in-the-server's-text"


def answer(status: int, code: str) -> aws.ClientError:
    error = {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(error, "CopyObject")  # type: ignore[arg-type] # the fields that are read


@pytest.mark.parametrize(
    ("status", "code", "kind", "name"),
    [
        (412, "PreconditionFailed", PreconditionFailedError, "precondition"),
        (409, "ConditionalRequestConflict", SinkConflictError, "conflict"),
        (409, "OperationAborted", SinkConflictError, "conflict"),
        (503, "SlowDown", SinkBusyError, "slow_down"),
        (503, "503", SinkBusyError, "slow_down"),
        (200, "SlowDown", SinkBusyError, "slow_down"),
        (200, "InternalError", SinkConflictError, "unavailable"),
        (500, "InternalError", SinkConflictError, "unavailable"),
        (400, "RequestTimeout", SinkConflictError, "unavailable"),
        (404, "NoSuchKey", SinkRejectedError, "missing"),
        (404, "404", SinkRejectedError, "missing"),
        (403, "AccessDenied", SinkRejectedError, "forbidden"),
        (403, "403", SinkRejectedError, "forbidden"),
        (400, "KMS.DisabledException", SinkRejectedError, "write_rejected"),
        (400, "MetadataTooLarge", SinkRejectedError, "write_rejected"),
        (400, "ExpiredToken", CredentialsError, "credentials"),
        (403, "InvalidAccessKeyId", CredentialsError, "credentials"),
    ],
)
def test_each_answer_has_its_class(status: int, code: str, kind: type[TaggingError], name: str) -> None:
    error = error_for(answer(status, code), "CopyObject")
    assert (type(error), error.code) == (kind, name)
    assert code in str(error)
    assert SECRET not in str(error)


def test_an_answer_that_cannot_be_read_is_no_answer() -> None:
    with pytest.raises(SinkConflictError, match="ResponseParserError"), translated("CopyObject"):
        raise ResponseParserError(SECRET)


def botocore_errors() -> list[type[aws.BotoCoreError]]:
    found = (kind for _, kind in inspect.getmembers(aws, inspect.isclass))
    return [kind for kind in found if issubclass(kind, aws.BotoCoreError)]


@pytest.mark.parametrize("kind", botocore_errors())
def test_no_botocore_failure_leaves_as_it_came(kind: type[aws.BotoCoreError]) -> None:
    error = kind.__new__(kind)  # many want fields of their own
    with pytest.raises(TaggingError), translated("HeadObject"):
        raise error


@pytest.mark.parametrize("kind", [aws.ConnectTimeoutError, aws.ReadTimeoutError, aws.ConnectionClosedError])
def test_a_lost_answer_is_asked_for_again(kind: type[aws.BotoCoreError]) -> None:
    with pytest.raises(SinkConflictError), translated("HeadObject"):
        raise kind(endpoint_url="http://localhost", error=SECRET)
