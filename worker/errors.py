"""Every failure Tagmill names: the class says what happens next, the message says it to a person."""

from __future__ import annotations


class TaggingError(Exception):
    """Root of the tree; `str()` is one line without secrets."""

    code = "error"  #: stable name in manifests, metrics and reports

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConfigError(TaggingError):
    """Found before any work was done or paid."""

    code = "config"


class NotFoundError(ConfigError):
    """A source, run or file that the user named does not exist."""

    code = "not_found"


class RuleError(ConfigError):
    """A rule that cannot be read; the message begins with where."""

    code = "rule"

    def __init__(self, message: str, *, column: int = 1, excerpt: str = "") -> None:
        """`column`: in characters, from 1. `excerpt`: two lines for a terminal, the second with a caret."""
        super().__init__(message)
        self.column = column
        self.excerpt = excerpt


class ItemError(TaggingError):
    """This image only. Becomes an outcome, never leaves the pipeline."""

    code = "item"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        calls: int = 0,
        maybe_charged: int = 0,
        latency_ms: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`calls`: requests that left for a billable endpoint; `maybe_charged`: those of unknown fate.

        `retry_after`: the server's own delay in seconds, when it gave one.
        """
        super().__init__(message, code=code)
        self.http_status = http_status
        self.calls = calls
        self.maybe_charged = maybe_charged
        self.latency_ms = latency_ms
        self.retry_after = retry_after


class RetryableError(ItemError):
    """The moment's failure: the same request may succeed later."""

    code = "temporary"


class ThrottledError(RetryableError):
    """The account is too fast: the fleet waits, the image loses no attempt."""

    code = "throttled"


class EngineUnavailableError(RetryableError):
    """Timeout, reset or 5xx after the request was sent."""

    code = "unavailable"


class AnswerLostError(EngineUnavailableError):
    """The request may have begun what goes on by itself: it is never made again."""

    code = "answer_lost"


class EngineUnreachableError(EngineUnavailableError):
    """No connection, nothing sent, nothing paid: never the image's fault."""

    code = "unreachable"


class BadResponseError(RetryableError):
    """A 2xx that is no tagging answer: worth one more try, then permanent."""

    code = "bad_response"


class SinkConflictError(RetryableError):
    """The object changed under us or the store was busy."""

    code = "conflict"


class SinkBusyError(SinkConflictError):
    """The store asks for time: worth more tries than a conflict, in growing pauses."""

    code = "slow_down"


class PermanentError(ItemError):
    """The same request would fail the same way."""

    code = "permanent"


class ImageNotFoundError(PermanentError):
    code = "missing"


class ImageRejectedError(PermanentError):
    code = "rejected"


class AccessDeniedError(PermanentError):
    """403: this image's, until enough images say that it is the account's."""

    code = "forbidden"


class WorkflowFailedError(PermanentError):
    """The workflow ended without tags."""

    code = "workflow_failed"


class WorkflowTimeoutError(PermanentError):
    """Nothing was heard of a workflow job until its deadline."""

    code = "workflow_timeout"


class SinkRejectedError(PermanentError):
    code = "write_rejected"


class RunError(TaggingError):
    """Stops the run; what was journaled is kept."""

    code = "run"


class CredentialsError(RunError):
    code = "credentials"


class QuotaExhaustedError(RunError):
    """The plan at the service is used up."""

    code = "quota"


class WriteBackSafetyError(RunError):
    """A write-back changed something that is not ours: no further object is touched until somebody looked."""

    code = "write_back_safety"


class BudgetExhaustedError(RunError):
    """A cap that the user set is reached; no call was made beyond it."""

    code = "budget"


class FailureRateError(RunError):
    """Too many images fail: it is not theirs, or somebody should look before more is paid for."""

    code = "failure_rate"


class EngineOutageError(RunError):
    code = "outage"


class RunStoreUnavailableError(RunError):
    code = "run_store"


class RedisUnavailableError(RunError):
    code = "redis"


class EventsUnavailableError(RunError):
    """A queue of events does not answer for now."""

    code = "events"
