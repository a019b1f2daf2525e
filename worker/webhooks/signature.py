"""Who sent it: https://www.filestack.com/docs/api/webhooks/; the signature is as in the official SDKs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence

_TIMESTAMP = re.compile(r"[0-9]{1,20}")
_SIGNATURE = re.compile(r"[0-9A-Fa-f]{64}")


class Endpoint:
    """One webhook of the portal: any of its secrets may have signed."""

    def __init__(
        self,
        name: str,
        secrets: Sequence[str],
        *,
        max_age_seconds: float | None,
        clock: Callable[[], float],
    ) -> None:
        """`max_age_seconds` None: a signature does not grow old."""
        self.name = name
        self._secrets = [secret.encode() for secret in secrets]
        self._max_age_seconds, self._clock = max_age_seconds, clock

    def accepts(self, timestamps: Sequence[str], signatures: Sequence[str], body: bytes) -> bool:
        """Whether one of the secrets signed this; the values of both headers as they were given."""
        if len(timestamps) != 1 or len(signatures) != 1:
            return False
        (timestamp,), (signature,) = timestamps, signatures
        if not (_TIMESTAMP.fullmatch(timestamp) and _SIGNATURE.fullmatch(signature)):
            return False
        signed, given = timestamp.encode() + b"." + body, bytes.fromhex(signature)
        genuine = [
            hmac.compare_digest(hmac.digest(secret, signed, hashlib.sha256), given)
            for secret in self._secrets
        ]
        return any(genuine) and self._is_young(int(timestamp))

    def _is_young(self, timestamp: int) -> bool:
        limit = self._max_age_seconds
        return limit is None or abs(self._clock() - timestamp) <= limit
