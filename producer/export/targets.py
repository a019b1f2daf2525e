"""Where an export goes: standard output, a file, an S3 object. The last two whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from boto3.s3.transfer import TransferConfig

from tagmill.producer.sources.s3_errors import WRITE, translated
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STDOUT = "-"
#: S3 takes 10,000 parts, so an object of up to 312 GiB. One part at a time is in memory.
PART_BYTES = 1 << 25


class Target(Protocol):
    def write(self, blocks: Iterable[bytes]) -> None:
        """Raise `TaggingError` in our words, and whatever `blocks` raises."""
        ...


def open_target(output: str, s3_client: Callable[[], S3Client]) -> Target:
    """Raise `ConfigError` for what nothing can be written to."""
    if output == STDOUT:
        return StdoutTarget()
    if not output.startswith("s3://"):
        return FileTarget(output)
    bucket, _, key = output.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise ConfigError(f"--output {output}: name an object, as in s3://bucket/key")
    return ObjectTarget(s3_client(), bucket, key)


class StdoutTarget:
    def write(self, blocks: Iterable[bytes]) -> None:
        """End without complaint when nobody reads on."""
        try:
            sys.stdout.buffer.writelines(blocks)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered


class FileTarget:
    """Replaces an earlier file of that name in one step."""

    def __init__(self, path: str) -> None:
        self._name = path
        self._path = os.path.realpath(path)  # a link stays, what it points to is replaced
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            raise ConfigError(f"--output {path}: this is no file")

    def write(self, blocks: Iterable[bytes]) -> None:
        temporary = os.path.join(os.path.dirname(self._path), f".tagmill-{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.writelines(blocks)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            raise ConfigError(f"--output {self._name}: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@dataclass(frozen=True, slots=True)
class ObjectTarget:
    """In parts, which S3 makes an object of at the end, or forgets when something fails."""

    client: S3Client
    bucket: str
    key: str

    def write(self, blocks: Iterable[bytes]) -> None:
        # Without threads: one part in memory, and `blocks` is read by the caller's thread.
        config = TransferConfig(PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        stream: Any = _Stream(blocks)
        with translated(self.bucket, started=False, doing=WRITE):
            self.client.upload_fileobj(stream, self.bucket, self.key, Config=config)


class _Stream:
    """Blocks of any length, to be read in parts."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks, self._ahead = iter(blocks), bytearray()

    def read(self, size: int | None = None) -> bytes:
        """Return less than `size` only at the end; None: all that is left."""
        while (size is None or len(self._ahead) < size) and (block := next(self._blocks, None)) is not None:
            self._ahead += block
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data
