"""A text file that the user named."""

from __future__ import annotations

from pathlib import Path

from tagmill.worker.errors import ConfigError, NotFoundError


def read_text(path: Path, what: str) -> str:
    """UTF-8. Raise `NotFoundError`, `ConfigError`, or ValueError for another encoding."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"no {what} {path}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
