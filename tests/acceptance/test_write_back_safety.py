"""A write-back that does harm is stopped by its first images; what is done otherwise than usual is told."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers.fleet import CLI, PIXEL, Deployment, Json, assert_all_tagged, deployed
from servers.s3 import S3UnderTest
from servers.sandbox import running_sandbox
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_store import Stored

IMAGES = 60
LANES = 4
KEYS = [f"in/{number:02d}.png" for number in range(IMAGES)]


class Library:
    """A bucket of images that `tagmill run` reaches with servers of its own, one process of four lanes."""

    def __init__(self, deployment: Deployment, s3: StrictS3UnderTest, **bucket: Any) -> None:
        self.deployment, self.s3 = deployment, s3
        self.bucket = s3.new_bucket(**bucket)
        client = s3.client()
        for key in KEYS:
            client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=PIXEL,
                ContentType="image/png",
                CacheControl="max-age=60",
                Tagging="team=web",
            )

    def spoil(self, **fields: Any) -> None:
        self.s3.store.buckets[self.bucket].spoil_copy = lambda copy: replace(copy, **fields)

    def heal(self) -> None:
        self.s3.store.buckets[self.bucket].spoil_copy = lambda copy: copy

    def run(self, *arguments: str, code: int) -> Json:
        program = self.deployment.start("run", *arguments, "--json")
        return self.deployment.finish(program, code).json

    def start(self, *arguments: str, code: int = 0) -> Json:
        return self.run(f"s3://{self.bucket}/in/", "--run-id", "mine", *arguments, code=code)

    def type(self, answer: bytes, *arguments: str) -> str:
        """Run a command on a terminal; return all that was to be read there."""
        ours, theirs = pty.openpty()
        environment = {**os.environ, **self.deployment.environment}
        with subprocess.Popen(
            [*CLI, *arguments],
            cwd=self.deployment.folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(ours, answer)
            shown = b""
            with contextlib.suppress(OSError):  # that is how a terminal ends
                while block := os.read(ours, 4096):
                    shown += block
            process.wait()
        os.close(ours)
        return shown.decode()

    def file(self, name: str) -> Json:
        found: Json = json.loads((self.deployment.run("mine").folder / name).read_text())
        return found

    @property
    def written(self) -> list[Stored]:
        """Images that carry our metadata."""
        stored = (self.s3.store.current(self.bucket, key) for key in KEYS)
        return [one for one in stored if "tagmill-run" in one.metadata]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[Deployment, StrictS3UnderTest]]:
    with ExitStack() as stack:
        s3, sandbox = stack.enter_context(running_strict_s3()), stack.enter_context(running_sandbox())
        settings = {**sandbox.environment, **S3UnderTest(s3.url).environment, "TAGMILL_PROCESSES": "1"}
        yield stack.enter_context(deployed(tmp_path, **settings)), s3


def test_a_server_that_does_harm_stops_the_run_after_what_was_in_flight(
    stage: tuple[Deployment, StrictS3UnderTest],
) -> None:
    library = Library(*stage)
    library.spoil(headers={"content-type": "image/png"})
    summary = library.start(code=6)
    with library.deployment.explained():
        assert (summary["state"], summary["reason"]) == ("paused", "write_back_safety")
        control = library.deployment.run("mine").controls()[-1]
        assert control["message"].startswith(f"s3://{library.bucket}/in/")
        assert control["message"].endswith("changed header cache-control")
        assert 1 <= len(library.written) <= LANES

    library.heal()
    done = library.run("--resume", "mine", code=0)
    with library.deployment.explained():
        assert_all_tagged(library.deployment.run("mine"), [f"s3://{library.bucket}/{key}" for key in KEYS])
        assert (done["calls"], len(library.written)) == (IMAGES, IMAGES)
        assert done["writes"]["written"] == IMAGES


def test_a_server_without_conditions_is_told_of_and_every_write_is_verified(
    stage: tuple[Deployment, StrictS3UnderTest],
) -> None:
    library = Library(*stage, honours_copy_conditions=False)
    summary = library.start()
    with library.deployment.explained():
        (warning,) = summary["warnings"]
        assert warning.startswith(f"s3://{library.bucket} ignores conditions on CopyObject")
        assert library.file("summary.json")["warnings"] == [warning]
        probe = library.file("probe.json")
        assert probe["endpoint"] == library.s3.url
        assert [found["copy_conditions"] for found in probe["buckets"]] == [False]
        requests = library.s3.store.requests
        assert requests.count("HeadObject") == 3 * IMAGES  # nothing there yet; before and after the copy
        assert list(library.s3.store.buckets[library.bucket].objects) == KEYS


def test_new_versions_and_events_are_agreed_to_and_that_is_kept_in_the_run(
    stage: tuple[Deployment, StrictS3UnderTest],
) -> None:
    library = Library(*stage, versioned=True)
    queue: Any = {"QueueArn": "arn:aws:sqs:us-east-1:1:thumbnails", "Events": ["s3:ObjectCreated:*"]}
    library.s3.client().put_bucket_notification_configuration(
        Bucket=library.bucket, NotificationConfiguration={"QueueConfigurations": [queue]}
    )
    command = ["run", f"s3://{library.bucket}/in/", "--run-id", "mine"]

    said = library.deployment.start(*command, "--allow-new-versions")
    library.deployment.finish(said, code=2)
    assert "is heard by arn:aws:sqs:us-east-1:1:thumbnails: say --allow-copy-events" in said.stderr

    refused = library.type(b"n\n", *command, "--allow-copy-events")
    assert f"metadata in s3://{library.bucket}: 2 HEAD and 1 COPY an image" in refused
    assert "keeps versions: each rewritten image becomes one more" in refused
    assert "Add these versions? [y/N]" in refused
    assert "say --allow-new-versions" in refused
    assert library.s3.store.requests.count("CopyObject") == 0

    assert "run mine: " in library.type(b"y\n", *command, "--allow-copy-events")
    consent = {"new_versions": "asked", "copy_events": "--allow-copy-events"}
    assert library.file("run.json")["consent"] == consent
    assert len(library.written) == IMAGES
    assert list(library.s3.store.buckets[library.bucket].objects) == KEYS
