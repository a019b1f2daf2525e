"""Outcomes without an answer."""

from __future__ import annotations

from datetime import UTC, datetime

from tagmill.worker.errors import ItemError
from tagmill.worker.models import Answer, Failure, Outcome, S3Object, Status, moment
from tagmill.worker.transfer import NOT_AN_IMAGE

#: An image that costs no call.
ALREADY_TAGGED = Outcome(
    Status.SKIPPED,
    error=Failure(
        "AlreadyTagged",
        "already_tagged",
        "an earlier run wrote the tags of this content with the same settings; --force asks for them again",
    ),
)
QUARANTINED = Outcome(
    Status.QUARANTINED,
    error=Failure("Quarantine", "quarantined", "alone in flight at two deaths of a worker"),
)
#: An image whose content another one has: a later pass hands it that one's answer.
WAITING = Outcome(Status.DUPLICATE)


def tagged(answer: Answer, transfer: str, behind: S3Object | None) -> Outcome:
    """As of now; `behind`: of a handle, its object when the service was asked."""
    return Outcome(
        Status.TAGGED,
        answer=answer,
        http_status=answer.http_status,
        latency_ms=answer.latency_ms,
        transfer=transfer,
        tagged_at=moment(datetime.now(UTC)),
        behind=behind,
    )


def failed(error: ItemError) -> Outcome:
    status = Status.SKIPPED if error.code == NOT_AN_IMAGE else Status.FAILED
    return Outcome(
        status,
        error=Failure(type(error).__name__, error.code, str(error)),
        http_status=error.http_status,
        latency_ms=error.latency_ms,
    )


def failed_unexpectedly(error: Exception) -> Outcome:
    failure = Failure(type(error).__name__, "internal", "unexpected error; see the worker's log")
    return Outcome(Status.FAILED, error=failure)
