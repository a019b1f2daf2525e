"""What a sandbox can be told."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tagmill.sandbox.deliveries import RETRY_SECONDS
from tagmill.sandbox.faults import FaultRule
from tagmill.sandbox.webhooks import Receiver
from tagmill.sandbox.workflows import Workflow, read_workflows
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

DEFAULT_PORT = 8091
THROTTLE_STATUSES = (429, 503)


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    api_key: str = "AsandboxKey00000000000"
    app_secret: str = field(default="sandbox-app-secret", repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT  #: 0: any free one
    aliases: Mapping[str, str] = field(default_factory=dict)  #: storage alias -> folder or http(s) URL prefix
    data_folder: str | None = None  #: where uploads are kept; None: a temporary folder
    container: str = "sandbox"  #: where its files are, by their metadata; such as a bucket
    rate_limit: Rate | None = None
    throttle_status: int = 429
    latency_seconds: float = 0.0  #: the least time from a tags request to its answer
    load: bool = False  #: answer any well-formed handle from memory
    cache: bool = True  #: False: every tags call is computed and billed
    cache_errors: bool = False
    faults: tuple[FaultRule, ...] = ()
    workflows: Mapping[str, Workflow] = field(default_factory=dict)  #: by id
    webhooks: tuple[Receiver, ...] = ()
    webhook_retries: tuple[float, ...] = RETRY_SECONDS  #: seconds before each further try
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"the sandbox cannot listen on port {self.port}")
        if self.throttle_status not in THROTTLE_STATUSES:
            raise ConfigError(f"the sandbox throttles with 429 or 503, not {self.throttle_status}")
        if self.latency_seconds < 0:
            raise ConfigError("the sandbox's latency must not be negative")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SandboxConfig:
        """Read a plain object; rates and fault rules as they are written. Raise ConfigError."""
        unknown = values.keys() - {item.name for item in fields(cls)}
        if unknown:
            raise ConfigError(f"the sandbox has no setting {min(unknown)!r}")
        try:
            return cls(**{**values, **_parsed(values)})
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"sandbox configuration: {error}") from error


def read_settings(path: Path | None) -> dict[str, Any]:
    """Return what a JSON file says, `-` for standard input; raise ConfigError."""
    if path is None:
        return {}
    try:
        settings = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"sandbox configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"sandbox configuration {path}: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"sandbox configuration {path}: not a JSON object")
    return settings


def _parsed(values: Mapping[str, Any]) -> dict[str, Any]:
    rate = values.get("rate_limit")
    return {
        "rate_limit": Rate.parse(rate) if isinstance(rate, str) else rate,
        "faults": tuple(FaultRule.from_json(rule) for rule in values.get("faults", ())),
        "workflows": read_workflows(Path(values["workflows"])) if "workflows" in values else {},
        "webhooks": tuple(Receiver.from_json(one) for one in values.get("webhooks", ())),
        "webhook_retries": tuple(map(float, values.get("webhook_retries", RETRY_SECONDS))),
    }
