"""A run store in a local (or shared) folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.store.base import PROBE

#: What `link` answers where hard links are not to be had (FAT, some network and FUSE file systems).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_HIDDEN = "."  #: our own scratch files, and what file systems and desktops leave (.nfs…, .DS_Store)
_TEMPORARY = f"{_HIDDEN}tmp-"
_LOCK = f"{_TEMPORARY}lock"  #: of a folder; a new one for each would lock nothing


class Folder:
    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self.location = str(root)

    def create(self, name: str, data: bytes) -> bool:
        path = self._root / name
        with self._translated(name):
            if path.exists():
                return False
            with self._temporary(path, [data]) as temporary:
                return _publish(temporary, path)

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        path = self._root / name
        with self._translated(name), self._temporary(path, data) as temporary:
            temporary.rename(path)
            _sync_folder(path.parent)

    def read(self, name: str) -> bytes:
        with self._translated(name, tolerated=FileNotFoundError):
            return (self._root / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        with self._translated(name, tolerated=FileNotFoundError):
            return (self._root / name).open("rb")

    def exists(self, name: str) -> bool:
        with self._translated(name):
            return (self._root / name).exists()

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        with self._translated(prefix):
            yield from sorted(name for name in self._entries(prefix, folders=False) if name > after)

    def folders(self, prefix: str) -> Iterator[str]:
        with self._translated(prefix):
            yield from sorted(self._entries(prefix, folders=True))

    def remove(self, name: str) -> None:
        with self._translated(name):
            (self._root / name).unlink(missing_ok=True)

    def remove_below(self, prefix: str) -> None:
        with self._translated(prefix), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / prefix)

    def leftovers(self) -> Iterator[tuple[str, datetime]]:
        with self._translated(""):
            for folder, _, names in os.walk(self._root):
                for path in (Path(folder, name) for name in names if _is_scratch(name)):
                    made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    yield str(path.relative_to(self._root)), made

    def _entries(self, prefix: str, *, folders: bool) -> Iterator[str]:
        try:
            with os.scandir(self._root / prefix) as entries:
                yield from (
                    entry.name
                    for entry in entries
                    if entry.is_dir() == folders and not entry.name.startswith(_HIDDEN)
                )
        except FileNotFoundError:
            return

    @contextlib.contextmanager
    def _temporary(self, path: Path, data: Iterable[bytes]) -> Iterator[Path]:
        _make_folder(path.parent)
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _translated(self, name: str, *, tolerated: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        try:
            yield
        except tolerated:
            raise
        except OSError as error:
            raise RunStoreUnavailableError(
                f"run store {self.location}: {name}: {error.strerror or error}"
            ) from error


def _is_scratch(name: str) -> bool:
    return name.startswith((PROBE, _TEMPORARY)) and name != _LOCK


def _publish(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS repeats a request whose reply was lost and then finds our own link: open(2), O_EXCL.
        return temporary.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _publish_without_links(temporary, path)
    _sync_folder(path.parent)
    return True


def _publish_without_links(temporary: Path, path: Path) -> bool:
    """Rename under a lock that dies with its holder, so that a crash leaves nothing behind."""
    with (path.parent / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return False
        temporary.rename(path)
        _sync_folder(path.parent)
        return True


def _make_folder(folder: Path) -> None:
    """With parents, each as durable as the files in it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
