"""`tagmill doctor`: every operation for real, one line each, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from servers.fleet import PIXEL, Deployment, deployed
from servers.redis import running_redis
from servers.s3 import S3UnderTest
from servers.sandbox import SandboxUnderTest, running_sandbox
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.config.celery import LANES
from tagmill.worker.state.board import Board
from tagmill.worker.state.keys import Keys

KEYS = Keys("tagmill")
NIGHTLY = '[[schedule]]\nname = "nightly"\ncron = "0 2 * * *"\nsource = "s3://bucket/"\n'


class Patient:
    """A fleet of one worker, and what it needs."""

    redis: Redis

    def __init__(self, s3: StrictS3UnderTest, sandbox: SandboxUnderTest, deployment: Deployment) -> None:
        self.s3, self.sandbox, self.deployment = s3, sandbox, deployment
        self.bucket = s3.new_bucket(versioned=True)
        self.source = f"s3://{self.bucket}/in/"
        s3.client().put_object(Bucket=self.bucket, Key="in/a.png", Body=PIXEL)

    @property
    def board(self) -> Board:
        return Board(self.redis, KEYS, *LANES)

    def examined(self, *arguments: str, code: int, **settings: str) -> dict[str, tuple[bool, str]]:
        doctor = self.deployment.start("doctor", *arguments, "--json", said=b"", **settings)
        report = self.deployment.finish(doctor, code=code).json
        assert report["schema"] == 1
        checks = {check["name"]: (check["passed"], check["found"]) for check in report["checks"]}
        assert report["failed"] == sum(not passed for passed, _ in checks.values())
        return checks


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    with ExitStack() as stack:
        s3 = stack.enter_context(running_strict_s3())
        sandbox = stack.enter_context(running_sandbox())
        redis = stack.enter_context(running_redis(0, aof=True))
        settings = {**sandbox.environment, **S3UnderTest(s3.url).environment, "TAGMILL_REDIS_URL": redis.url}
        patient = Patient(s3, sandbox, stack.enter_context(deployed(tmp_path, **settings)))
        patient.redis = stack.enter_context(redis.sync_client())
        patient.board.note_worker("a-worker", 2)
        yield patient


def test_all_is_well_and_nothing_is_left_behind(patient: Patient) -> None:
    checks = patient.examined(patient.source, "--write-back", "metadata,tags", "--pay", code=0)
    assert list(checks) == [
        *("redis", "workers", "messages", "run store"),
        *("s3 list", "s3 read", "s3 write", "s3 copy", "s3 tag", "s3 delete"),
        *("filestack store", "filestack stat", "filestack tags", "filestack remove"),
    ]
    assert all(passed for passed, _ in checks.values())
    assert patient.sandbox.stats()["calls"] == 1
    objects = patient.s3.store.buckets[patient.bucket].objects
    assert {key: len(versions) for key, versions in objects.items() if versions} == {"in/a.png": 1}


def test_no_call_is_paid_for_unless_somebody_says_so(patient: Patient) -> None:
    assert "filestack tags" not in patient.examined(code=0)
    assert patient.sandbox.stats()["calls"] == 0


def test_what_fails_is_named_with_its_mend(patient: Patient) -> None:
    patient.s3.faults.always("CopyObject", lambda: Fault(403, "AccessDenied"))
    checks = patient.examined(
        patient.source, code=1, TAGMILL_FILESTACK_APP_SECRET="another", TAGMILL_RUN_STORE="/proc/nowhere"
    )
    failed = {name: found for name, (passed, found) in checks.items() if not passed}
    assert list(failed) == ["run store", "s3 copy", "filestack store"]
    assert "grant s3:PutObject and s3:GetObject" in failed["s3 copy"]
    assert "check key and secret" in failed["filestack store"]
    assert "another" not in json.dumps(checks)


def test_work_that_nobody_does_is_named(patient: Patient) -> None:
    patient.board.note_worker("a-worker", 2, ["events"])
    patient.redis.hset(KEYS.foreign_messages(), "9", 3)
    (patient.deployment.folder / "tagmill.toml").write_text(NIGHTLY)
    checks = patient.examined(code=1)
    assert {name: found for name, (passed, found) in checks.items() if not passed} == {
        "workers": "no worker serves nightly, backfill: start `tagmill worker`",
        "messages": "not understood and left to refill: 3 of version 9; the fleet is of several versions: "
        "update all",
        "schedules": "nightly: no beat keeps them: start `tagmill beat`",
    }
    assert patient.board.lead_beats("a-beat", 60)
    patient.board.note_trouble("nightly", "no images in s3://bucket/")
    assert patient.examined(code=1)["schedules"] == (False, "nightly: no images in s3://bucket/")


def test_a_service_without_credentials_fails_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment:
        doctor = deployment.finish(deployment.start("doctor"), code=1)
    lines = doctor.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "ok    redis",
        "ok    run store",
        "FAIL  filestack credentials",
    ]


def test_the_least_that_must_be_allowed(patient: Patient) -> None:
    doctor = patient.deployment.start(
        *("doctor", patient.source, "--policies", "--all-versions"),
        TAGMILL_RUN_STORE="s3://runs/here",
        TAGMILL_WRITE_BACK="tags",
    )
    policies = patient.deployment.finish(doctor).json
    assert policies["filestack"] == {"call": ["convert", "read"]}
    by_name = {statement["Sid"]: statement for statement in policies["iam"]["Statement"]}
    assert by_name["TagmillObjects"]["Resource"] == f"arn:aws:s3:::{patient.bucket}/in/*"
    needed = {"s3:GetObjectVersion", "s3:PutObjectTagging", "s3:PutObjectVersionTagging"}
    assert needed <= set(by_name["TagmillObjects"]["Action"])
    assert by_name["TagmillList"]["Action"] == ["s3:ListBucket", "s3:ListBucketVersions"]
    assert by_name["TagmillRunStore"]["Resource"] == "arn:aws:s3:::runs/here/*"
