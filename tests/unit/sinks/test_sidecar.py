from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tagmill.worker.errors import SinkRejectedError
from tagmill.worker.models import ImageRef, LocalFile, Write, WriteStatus
from tagmill.worker.sinks.base import Tagging, Written
from tagmill.worker.sinks.sidecar import MAX_BYTES, SidecarSink

TAGGING = Tagging(
    run_id="run-one",
    engine="sandbox",
    engine_config="0123456789abcdef",
    policy="fedcba9876543210",
    tags={"auto": {"sky": 97}, "user": None},
    tagged_at="2026-11-22T00:00:00Z",
)


async def keep(_: Mapping[str, Any]) -> None:
    """Nobody asks."""


def image_in(folder: Path, name: bytes = b"photo.jpg") -> LocalFile:
    path = os.path.join(os.fsencode(folder), name)
    Path(os.fsdecode(path)).write_bytes(b"image")
    found = os.stat(path)
    return LocalFile.at(os.fsencode(folder), name, found.st_size, found.st_mtime_ns)


async def write(image: LocalFile, tagging: Tagging = TAGGING) -> Write:
    return await SidecarSink().write(ImageRef(image), tagging, keep)


async def test_the_file_says_what_was_written_and_by_whom(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    await write(image)
    assert json.loads((tmp_path / "photo.jpg.tags.json").read_text()) == {
        "schema": 1,
        "generator": "tagmill",
        "run": "run-one",
        "replaces": None,
        "engine": "sandbox",
        "engine_config": "0123456789abcdef",
        "policy": "fedcba9876543210",
        "source": {"size": 5, "mtime_ns": image.mtime_ns},
        "tags": {"auto": {"sky": 97}, "user": None},
    }


async def test_another_time_is_no_change(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    await write(image)
    again = await write(image, replace(TAGGING, tagged_at="2030-01-01T00:00:00Z"))
    assert again.status is WriteStatus.UNCHANGED


async def test_a_name_of_any_bytes_gets_its_sidecar(tmp_path: Path) -> None:
    await write(image_in(tmp_path, b"\xff %41\n.jpg"))
    assert b"\xff %41\n.jpg.tags.json" in os.listdir(os.fsencode(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b'{"schema": 1}',
        b"\xff not json",
        b'{"generator": "tagmill", "\xff": 1}',
        b" " * (MAX_BYTES + 1),
    ],
)
async def test_a_foreign_file_of_that_name_is_left_alone(tmp_path: Path, content: bytes) -> None:
    sidecar = tmp_path / "photo.jpg.tags.json"
    sidecar.write_bytes(content)
    outcome = await write(image_in(tmp_path))
    assert (outcome.status, outcome.reason) == (WriteStatus.SKIPPED, "foreign_file")
    assert sidecar.read_bytes() == content


async def test_a_link_of_that_name_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    (tmp_path / "photo.jpg.tags.json").symlink_to(target)
    assert (await write(image_in(tmp_path))).reason == "foreign_file"
    assert not target.exists()


async def test_an_image_that_is_gone_is_missing(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    (tmp_path / "photo.jpg").unlink()
    with pytest.raises(SinkRejectedError) as caught:
        await write(image)
    assert caught.value.code == "missing"


async def test_a_name_without_room_for_the_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SinkRejectedError, match="no sidecar: File name too long"):
        await write(image_in(tmp_path, b"x" * 250))


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "make the folder writable")]
)
async def test_a_refusal_says_what_to_do_and_leaves_the_folder_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    image = image_in(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SinkRejectedError, match=advice):
        await write(image)
    assert os.listdir(tmp_path) == ["photo.jpg"]


async def test_a_killed_write_leaves_the_old_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    image = image_in(tmp_path)
    await write(image)
    before = (tmp_path / "photo.jpg.tags.json").read_bytes()
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        await write(image, replace(TAGGING, run_id="run-two", tags={"auto": {"sea": 1}}))
    assert (tmp_path / "photo.jpg.tags.json").read_bytes() == before


async def test_what_was_there_comes_back_byte_for_byte(tmp_path: Path) -> None:
    kept: list[Mapping[str, Any]] = []

    async def remember(values: Mapping[str, Any]) -> None:
        kept.append(values)

    image, sidecar = image_in(tmp_path), tmp_path / "photo.jpg.tags.json"
    await write(image)
    before = sidecar.read_bytes().replace(b"\n", b"\r\n")  # somebody's editor
    sidecar.write_bytes(before)
    other = replace(TAGGING, run_id="run-two", tags={"auto": {"sea": 1}})
    done = await SidecarSink().write(ImageRef(image), other, remember)
    assert kept == [{"sink": "sidecar", "run": "run-one", "content": before.decode()}]
    written = Written("run-two", asdict(done), kept[0], no_manifest, other)
    assert (await SidecarSink().undo(ImageRef(image), written)).status is WriteStatus.WRITTEN
    assert sidecar.read_bytes() == before


async def no_manifest(_run_id: str) -> None:
    """Earlier runs left none."""
