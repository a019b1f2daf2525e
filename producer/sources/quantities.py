"""Sizes and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SIZE_RULE = "write a size such as 10KB, 5MB or 1.5MiB (KB is 1000 bytes, KiB is 1024)"
TIME_RULE = "write a date or a time such as 2026-11-01 or 2026-11-01T08:30:00Z (UTC unless it says otherwise)"
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[KMGT]?)(?P<binary>I?)B?", re.IGNORECASE)
_PREFIXES = "KMGT"


def parse_size(text: str) -> int:
    """Bytes. Raise ValueError, with the rule as its text, for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match["binary"] and not match["prefix"]):
        raise ValueError(SIZE_RULE)
    base = 1024 if match["binary"] else 1000
    power = _PREFIXES.index(match["prefix"].upper()) + 1 if match["prefix"] else 0
    return round(float(match["number"]) * float(base**power))


def parse_time(text: str) -> str:
    """RFC 3339, UTC. Raise ValueError, with the rule as its text, for anything else."""
    try:
        time = datetime.fromisoformat(text.strip())
        return rfc3339(time if time.tzinfo else time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(TIME_RULE) from None


def rfc3339(time: datetime) -> str:
    """In UTC, with a Z, and with milliseconds only where there are any."""
    precision = "milliseconds" if time.microsecond else "seconds"
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
