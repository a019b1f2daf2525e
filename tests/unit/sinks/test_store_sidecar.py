from __future__ import annotations

import json
from dataclasses import asdict, replace

from fakes.files import MemoryFiles
from fakes.sink import FakeSink
from fakes.taggings import TAGGING, keep, no_manifest

from tagmill.worker.models import Handle, ImageRef, LocalFile, S3Object, WriteStatus
from tagmill.worker.sinks.base import Written
from tagmill.worker.sinks.by_place import SinkByPlace
from tagmill.worker.sinks.store_sidecar import StoreSidecarSink

REF = ImageRef(Handle("AbCdEfGhIjKlMnOpQr01"))
NAME = "runs/run-one/sidecars/AbCdEfGhIjKlMnOpQr01.tags.json"


async def test_a_run_has_a_sidecar_for_each_handle() -> None:
    files = MemoryFiles()
    sink = StoreSidecarSink(files)
    assert (await sink.write(REF, TAGGING, keep)).status is WriteStatus.WRITTEN
    assert (await sink.write(REF, TAGGING, keep)).status is WriteStatus.UNCHANGED
    assert json.loads(files.read(NAME))["tags"] == TAGGING.tags
    assert (await sink.write(REF, replace(TAGGING, run_id="run-two"), keep)).status is WriteStatus.WRITTEN
    assert json.loads(files.read(NAME))["run"] == "run-one"


async def test_another_answer_replaces_the_first_and_undo_takes_it_out() -> None:
    files = MemoryFiles()
    sink = StoreSidecarSink(files)
    await sink.write(REF, TAGGING, keep)
    other = replace(TAGGING, tags={"auto": {"sea": 55}})
    write = await sink.write(REF, other, keep)
    assert json.loads(files.read(NAME))["tags"] == other.tags
    written = Written("run-one", asdict(write), None, no_manifest, other)
    assert (await sink.undo(REF, replace(written, tagging=TAGGING))).reason == "changed_since"
    assert (await sink.undo(REF, written)).status is WriteStatus.WRITTEN
    assert (await sink.undo(REF, written)).status is WriteStatus.UNCHANGED
    assert not files.exists(NAME)


async def test_no_sidecar_of_another_run_is_looked_for() -> None:
    sink = StoreSidecarSink(MemoryFiles())
    await sink.write(REF, TAGGING, keep)
    assert not await sink.marked(REF, TAGGING.engine_config, TAGGING.policy, "run-two")


async def test_images_that_are_no_handles_are_passed_over() -> None:
    sink = StoreSidecarSink(MemoryFiles())
    image = ImageRef(S3Object("bucket", "key"))
    written = Written("run-one", None, None, no_manifest)
    reasons = [(await sink.write(image, TAGGING, keep)).reason, (await sink.undo(image, written)).reason]
    assert reasons == ["no_handle", "no_handle"]


async def test_where_an_image_lies_decides_which_sink_writes() -> None:
    of_files, of_handles = FakeSink("sidecar"), FakeSink("sidecar")
    sink = SinkByPlace("sidecar", {LocalFile: of_files, Handle: of_handles})
    await sink.write(REF, TAGGING, keep)
    assert (of_files.writes, of_handles.writes) == (0, 1)
    assert await sink.marked(REF, TAGGING.engine_config, TAGGING.policy, "run-two")
    elsewhere = ImageRef(S3Object("bucket", "key"))
    written = Written("run-one", {"status": "written"}, None, no_manifest, TAGGING)
    assert (await sink.write(elsewhere, TAGGING, keep)).reason == "no_place"
    assert (await sink.undo(elsewhere, written)).reason == "no_place"
    assert not await sink.marked(elsewhere, TAGGING.engine_config, TAGGING.policy, "run-two")
    await sink.aclose()
