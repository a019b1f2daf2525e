"""Settings as environment variables, for the processes we start ourselves."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, SecretStr

from tagmill.config.settings import ENV_PREFIX, Settings

#: No process of ours is a receiver's child, or a beat's.
_OTHERS = {"webhooks", "webhook_secrets", "schedule"}


def to_environment(settings: Settings) -> dict[str, str]:
    """Only what is set; secrets included, so for a child process and nothing else."""
    pairs = ((name, getattr(settings, name)) for name in type(settings).model_fields if name not in _OTHERS)
    return {ENV_PREFIX + name.upper(): _text(value) for name, value in pairs if value is not None}


def child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment at hand with exactly these settings."""
    other = {name: value for name, value in environment.items() if not name.startswith(ENV_PREFIX)}
    return other | to_environment(settings)


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return str(value).lower() if isinstance(value, bool) else str(value)
