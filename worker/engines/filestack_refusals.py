"""Which error a Filestack answer without tags is: the status first, then the text.

Error texts are plain text or JSON, also with status 200:
https://www.filestack.com/docs/image-transformations/debug and issues of Filestack's own repositories.
"""

from __future__ import annotations

import hashlib
import math
import re
from http import HTTPStatus

from tagmill.worker.engines.exchange import Reply, timestamp
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    CredentialsError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImageRejectedError,
    ItemError,
    PermanentError,
    QuotaExhaustedError,
    TaggingError,
    ThrottledError,
)

MAX_RESET_SECONDS = 3600.0  #: a `Filestack-Reset` further off is not believed
MAX_RETRY_AFTER_SECONDS = 120.0
_EXCERPT_BYTES = 4096
_EXCERPT_CHARACTERS = 200

_SECRET = re.compile(r"\w+://\S+|[\w+/=%-]{22,}")  # addresses, and what is as long as a key or a signature
_IMAGE = re.compile(r"not supported|failed to identify|corrupted", re.IGNORECASE)
_ACCOUNT = re.compile(r"policy|signature|security|application", re.IGNORECASE)
_QUOTA = re.compile(r"\bquota\b", re.IGNORECASE)

_BY_STATUS: dict[int, type[ItemError]] = {
    HTTPStatus.FORBIDDEN: AccessDeniedError,
    HTTPStatus.NOT_FOUND: ImageNotFoundError,
    HTTPStatus.GONE: ImageNotFoundError,
    HTTPStatus.REQUEST_TIMEOUT: EngineUnavailableError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ImageRejectedError,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ImageRejectedError,
    HTTPStatus.UNPROCESSABLE_ENTITY: ImageRejectedError,
    HTTPStatus.TOO_EARLY: EngineUnavailableError,
    HTTPStatus.TOO_MANY_REQUESTS: ThrottledError,
    HTTPStatus.SERVICE_UNAVAILABLE: ThrottledError,
}
_SENTENCES: dict[type[ItemError], str] = {
    AccessDeniedError: "Filestack denies access; check the key, the secret and what the account may do",
    BadResponseError: "Filestack's answer is not in the documented shape",
    EngineUnavailableError: "Filestack is failing",
    ImageNotFoundError: "Filestack does not find the image",
    ImageRejectedError: "Filestack rejects the image",
    PermanentError: "Filestack refuses the request",
    ThrottledError: "Filestack asks to slow down",
}


def error_for(reply: Reply, *, unread: str = "") -> TaggingError:
    """`unread` says why a 2xx is no answer. The text of the service is quoted without secrets."""
    status, text = reply.status, excerpt(reply.body)
    said = f"(status {status}, {text})"
    if status == HTTPStatus.UNAUTHORIZED:
        return CredentialsError(f"Filestack refuses the API key or the app secret; check both {said}")
    if status == HTTPStatus.PAYMENT_REQUIRED or (status == HTTPStatus.FORBIDDEN and _QUOTA.search(text)):
        return QuotaExhaustedError(f"the Filestack plan is used up; extend it, then resume {said}")
    if unread:
        said += f": {unread}, sha256 {hashlib.sha256(reply.body).hexdigest()[:16]}"
    return _item_error(_item_class(status, text, limited=limit_reached(reply)), said, reply)


def _item_error(error_class: type[ItemError], said: str, reply: Reply) -> ItemError:
    error = error_class(
        f"{_SENTENCES[error_class]} {said}",
        http_status=reply.status,
        calls=int(reply.billable),
        latency_ms=reply.latency_ms,
    )
    if isinstance(error, ThrottledError):
        error.retry_after = wait_seconds(reply)
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        error.code = "unexpected_redirect"
    return error


def _item_class(status: int, text: str, *, limited: bool) -> type[ItemError]:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return BadResponseError  # error texts and web pages arrive with 200 too
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if _IMAGE.search(text):
        return ImageRejectedError
    if status == HTTPStatus.BAD_REQUEST:
        return AccessDeniedError if _ACCOUNT.search(text) else ImageRejectedError
    if limited:  # not before: an image that is gone would be asked for again, for nothing
        return ThrottledError
    return EngineUnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else PermanentError


def wait_seconds(reply: Reply) -> float | None:
    """How long the service wants to be left alone; None when it does not say."""
    until_reset = _number(reply.headers.get("filestack-reset", "")) - reply.server_time
    if 0 <= until_reset <= MAX_RESET_SECONDS:
        return until_reset
    after = reply.headers.get("retry-after", "")
    moment = timestamp(after)
    delay = _number(after) if moment is None else moment - reply.server_time
    return min(delay, MAX_RETRY_AFTER_SECONDS) if delay >= 0 else None


def limit_reached(reply: Reply) -> bool:
    """A success, too, may say that it was the last one for now."""
    return bool(reply.headers.get("filestack-remaining", "").strip() == "0")


def excerpt(body: bytes) -> str:
    """The beginning of a text in one line, without addresses, keys and signatures."""
    text = body[:_EXCERPT_BYTES].decode(errors="replace").strip()
    if text.startswith("<"):
        return "a web page"
    words = " ".join(_SECRET.sub("[…]", text).split())
    return "".join(filter(str.isprintable, words))[:_EXCERPT_CHARACTERS] or "no text"


def _number(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
