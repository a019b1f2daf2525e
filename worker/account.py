"""Which account is paid for, and how fast it may be called."""

from __future__ import annotations

import hashlib

from tagmill.config.settings import Settings
from tagmill.worker.rate import Rate

DEFAULT_RATE = Rate.parse("4/s")


def account_id(settings: Settings) -> str:
    """Hash of engine address and key: those who share it share its rate. No secret can be read from it."""
    key = settings.filestack_api_key.get_secret_value() if settings.filestack_api_key else ""
    return hashlib.sha256(f"{settings.filestack_cdn_url}\n{key}".encode()).hexdigest()[:16]


def account_rate(settings: Settings) -> Rate:
    return settings.rate or DEFAULT_RATE
