"""How the engine comes by an image: a name or a link that it reads itself, or bytes to upload first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tagmill.worker.contents import NOT_AN_IMAGE, Content, read_file, read_object
from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.errors import ConfigError, ImageRejectedError
from tagmill.worker.links import Links
from tagmill.worker.models import BadLine, Handle, ImageRef, LocalFile, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["NOT_AN_IMAGE", "Content", "Transfers"]


class Transfers:
    """`storage_alias`: the service's name for the bucket; `upload`: send the bytes of S3 objects, too."""

    def __init__(
        self,
        *,
        s3: S3Client | None = None,
        storage_alias: str | None = None,
        upload: bool = False,
        epoch: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`epoch`, such as the start of the run, is where windows of equal links begin: see `Links`."""
        self._s3 = s3
        self._links = None if s3 is None else Links(s3, epoch=epoch, clock=clock)
        self._storage_alias = storage_alias
        self._upload = upload

    async def locate(self, ref: ImageRef) -> Locator | Content:
        """Raise an `ItemError` that counts no calls, or `CredentialsError` for those of AWS."""
        match ref.source:
            case Handle(handle=handle):
                return Locator(Transfer.HANDLE, handle, fresh=ref.fresh)
            case LocalFile() as file:
                return await asyncio.to_thread(read_file, file)
            case S3Object() as image:
                return await self._locate_object(image, fresh=ref.fresh)
            case BadLine(reason=reason):
                raise ImageRejectedError(reason, code="bad_line")

    async def _locate_object(self, image: S3Object, *, fresh: bool) -> Locator | Content:
        of_version = image.is_latest is not None  # an alias knows objects only
        if self._storage_alias is not None and not self._upload and not of_version:
            return Locator(Transfer.ALIAS, f"src://{self._storage_alias}/{image.key}", fresh=fresh)
        if self._s3 is None or self._links is None:
            raise ConfigError("S3 images need an S3 client, or a storage alias")
        if self._upload:
            return await asyncio.to_thread(read_object, self._s3, image)
        url = await asyncio.to_thread(self._links.url, image)
        return Locator(Transfer.URL, url, fresh=fresh, of_version=of_version)
