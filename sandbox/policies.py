"""Security policies: urlsafe base64 with padding, signed with HMAC-SHA256 over the encoded text.

Rules: https://www.filestack.com/docs/security/policies
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)?")
_NOT_BY_DEFAULT = frozenset({"exif"})  #: what a policy without `call` does not allow


class PolicyError(Exception):
    """This policy does not permit the request; `malformed` when it is no policy at all."""

    def __init__(self, message: str, *, malformed: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class Policy:
    expiry: float  #: Unix seconds
    calls: frozenset[str] | None = None  #: None: every call but `exif`
    handle: str | None = None
    url: str | None = None  #: regular expression that external sources must match
    min_size: int = 0
    max_size: int | None = None

    def allows(self, *calls: str) -> bool:
        """One of these calls is enough."""
        if self.calls is None:
            return not _NOT_BY_DEFAULT.issuperset(calls)
        return not self.calls.isdisjoint(calls)

    def allows_url(self, url: str) -> bool:
        """Raise PolicyError when the restriction is no regular expression."""
        try:
            return self.url is None or re.search(self.url, url) is not None
        except re.error as error:
            raise PolicyError("policy url is not a regular expression", malformed=True) from error


#: What HTTP basic authentication with the app secret stands for.
UNRESTRICTED = Policy(expiry=float("inf"))


def encode(policy: Mapping[str, Any]) -> str:
    text = json.dumps(policy, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def sign(secret: str, encoded: str) -> str:
    return hmac.new(secret.encode(), encoded.encode(), hashlib.sha256).hexdigest()


def verify(secret: str, encoded: str | None, signature: str | None, now: float) -> Policy:
    """The policy, or raise PolicyError with the reason."""
    if not encoded or not signature:
        raise PolicyError("policy and signature are required", malformed=True)
    policy = _opened(secret, encoded, signature)
    if policy.expiry <= now:
        raise PolicyError("policy has expired")
    return policy


@lru_cache(maxsize=1_024)
def _opened(secret: str, encoded: str, signature: str) -> Policy:
    if not _ENCODED.fullmatch(encoded):
        raise PolicyError("policy is not properly url-safe base64 encoded", malformed=True)
    if not hmac.compare_digest(sign(secret, encoded).encode(), signature.encode()):
        raise PolicyError("signature does not match the policy")
    return _parsed(encoded)


def _parsed(encoded: str) -> Policy:
    try:
        fields = json.loads(base64.urlsafe_b64decode(encoded))
        return Policy(
            expiry=_number(fields["expiry"]),
            calls=_calls(fields.get("call")),
            handle=_optional(str, fields.get("handle")),
            url=_optional(str, fields.get("url")),
            min_size=_optional(int, fields.get("minSize")) or 0,
            max_size=_optional(int, fields.get("maxSize")),
        )
    except KeyError as error:
        raise PolicyError("policy has no expiry", malformed=True) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise PolicyError("policy is not a JSON object of known fields", malformed=True) from error


def _optional(kind: type[T], value: Any) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expiry")
    return float(value)


def _calls(value: Any) -> frozenset[str] | None:
    """A list, or (as the JavaScript SDK allows) one string."""
    if value is None:
        return None
    return frozenset([value] if isinstance(value, str) else value)
