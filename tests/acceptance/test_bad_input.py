"""Bad input gets one clear line, the right exit code, and costs nothing: no run, no call, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import forked
from servers.fleet import CLI, PIXEL, Deployment, deployed
from servers.forgetful_s3 import forgetful_s3
from servers.forked import Forked
from servers.redis import free_port, running_redis
from servers.s3 import S3UnderTest, canned_s3
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.sandbox.config import DEFAULT_PORT

WITHIN_SECONDS = 60
KEYS = {
    "TAGMILL_FILESTACK_API_KEY": "AkeyOfNobody0000000000",
    "TAGMILL_FILESTACK_APP_SECRET": "nobodys-secret",
}
AWS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
NO_S3 = {**AWS, "TAGMILL_S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
NO_REDIS = {"TAGMILL_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """What it said on stderr, besides its log."""
        return [line for line in self.stderr.splitlines() if not line.startswith("{")]


class Desk:
    """Where a user types. There is a folder `photos` with pictures, and an empty one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("photos", "empty"):
            (folder / name).mkdir()
        for number in range(3):
            (folder / "photos" / f"{number}.png").write_bytes(PIXEL)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_EC2_METADATA_DISABLED": "true",
            "TAGMILL_RUN_STORE": str(folder / "store"),
            "TAGMILL_STATE_DIR": str(folder / "state"),
            "TAGMILL_LOG_FORMAT": "json",
        }

    def type(self, *arguments: str, prefix: Sequence[str] = (), **settings: str) -> Said:
        done = subprocess.run(
            [*prefix, *CLI, *arguments],
            cwd=self.folder,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_SECONDS,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def refused(self, code: int, *arguments: str, prefix: Sequence[str] = (), **settings: str) -> str:
        """Type what must be refused; return the one line that says why."""
        return self.refusal(self.type(*arguments, prefix=prefix, **settings), code)

    def fork(self, *arguments: str, **settings: str) -> Said:
        """The same as `type`, without the time it takes to import the program."""
        streams = [os.devnull, str(self.folder / "out"), str(self.folder / "err")]
        process = Forked(forked.CLI, arguments, self.folder, {**self.environment, **settings}, streams)
        code = process.wait(WITHIN_SECONDS)
        return Said(code, *((self.folder / name).read_text() for name in ("out", "err")))

    def refusal(self, said: Said, code: int) -> str:
        assert (said.code, said.stdout) == (code, ""), said
        assert "Traceback" not in said.stderr, said
        (line,) = said.lines
        assert line.startswith("tagmill: ")
        assert not list((self.folder / "store").rglob("*.json*")), "something was written"
        assert not list((self.folder / "photos").glob("*.tags.json"))
        return line.removeprefix("tagmill: ")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxUnderTest]:
    with running_sandbox() as server:
        yield server


# --- settings, flags, commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ("run photos", {"TAGMILL_RATES": "1/s"}, "TAGMILL_RATES is no setting of Tagmill; did you mean"),
        ("run photos --ratee 5/s", {}, "No such option: --ratee (Possible options: --rate"),
        ("run photos", {"TAGMILL_RATE": "fast"}, "TAGMILL_RATE: write calls per unit, such as 20/s"),
        ("run photos --rate 0/s", {}, "--rate: write calls per unit, such as 20/s"),
        ("run photos --chunk-size many", {}, "Invalid value for '--chunk-size'"),
        ("run photos --min-size big", {}, "--min-size: write a size such as 10KB"),
        ("run photos", {"TAGMILL_FILESTACK_API_KEY": "k"}, "TAGMILL_FILESTACK_APP_SECRET is missing"),
        ("run photos --run-id Mine", {}, "run id 'Mine': use 3 to 64 of a-z, 0-9 and -"),
        ("run photos --detach", {}, "--detach needs a fleet: set TAGMILL_REDIS_URL"),
        ("run photos --write-back metadata", {}, "--write-back metadata is not for this source"),
        (
            "run photos --engine filestack-workflow",
            KEYS,
            "--engine filestack-workflow needs the id of a Work",
        ),
        (
            "run photos --workflow-id people",
            KEYS,
            "--workflow-id: write the Workflow's id as the portal shows it",
        ),
        (
            "run photos --task-name tags",
            KEYS,
            "--task-name is for --engine filestack-workflow, this is filestack",
        ),
        ("run", {}, "name a SOURCE: s3://bucket/prefix, a folder, or a list of handles"),
        ("runn photos", {}, "No such command 'runn'"),
        ("run s3://bucket/prefix", {}, "no Filestack credentials: set TAGMILL_FILESTACK_API_KEY and"),
        ("run --resume some-run photos", {}, "--resume goes on with what was planned: name no SOURCE"),
        ("run photos", {**NO_REDIS, **KEYS}, "a fleet's workers do not see a local folder"),
        ("run s3://b/p --engine sandbox", NO_REDIS, "a fleet has no embedded sandbox"),
        ("worker", KEYS, "TAGMILL_REDIS_URL is not set: a worker belongs to a fleet"),
        ("sandbox --rate-limit fast", {}, "sandbox configuration: write calls per unit, such as 20/s"),
        ("sandbox --config no.json", {}, "sandbox configuration no.json: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused(
    desk: Desk, arguments: str, settings: dict[str, str], said: str
) -> None:
    assert desk.refusal(desk.fork(*arguments.split(), **settings), 2).startswith(said)


def test_a_typo_in_the_settings_file_is_named(desk: Desk) -> None:
    (desk.folder / "tagmill.toml").write_text("[rates]\n")
    said = "tagmill.toml: rates is no setting of Tagmill; did you mean rate?"
    assert desk.refused(2, "run", "photos") == said


@pytest.mark.parametrize(
    "arguments",
    [
        "run --resume no-such-run",
        "status no-such-run",
        "status",
        "retry no-such-run",
        "undo no-such-run --dry-run",
    ],
)
def test_an_unknown_run_is_not_found(desk: Desk, arguments: str) -> None:
    assert desk.refused(3, *arguments.split()).startswith("no run")


def test_help_is_quick(desk: Desk) -> None:
    command = [sys.executable, "-c", "import typer"]
    subprocess.run(command, check=True, env=desk.environment)  # so that both find compiled modules
    least = _cpu_seconds(lambda: subprocess.run(command, check=True, env=desk.environment))
    assert _cpu_seconds(lambda: desk.type("--help")) < 2 * least + 0.1


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Of child processes: what else the machine does is of no account."""
    before = os.times()
    call()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_imports_nothing_heavy(desk: Desk) -> None:
    command = [sys.executable, "-X", "importtime", *CLI[1:], "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=desk.environment)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {
        "celery",
        "kombu",
        "redis",
        "boto3",
        "botocore",
        "pydantic_settings",
        "httpx",
        "aiohttp",
        "numpy",
    }
    assert imported & heavy == set()
    assert "typer" in imported


# --- sources ----------------------------------------------------------------------------------------------


def test_a_folder_that_is_missing_or_without_images_is_not_found(desk: Desk) -> None:
    assert desk.refused(3, "run", "nowhere").startswith(f"no folder or file '{desk.folder}/nowhere'")
    assert desk.refused(3, "run", "empty") == f"no images in {desk.folder}/empty"


@pytest.mark.parametrize(("source", "shown"), [("list.txt", "list.txt"), ("-", "stdin")])
def test_a_list_that_names_nothing_is_not_found(desk: Desk, source: str, shown: str) -> None:
    (desk.folder / "list.txt").write_text("\n# nobody\n")
    assert desk.refused(3, "run", source, **KEYS) == f"no images in {shown}"


def test_a_missing_bucket_for_sidecars_is_not_found(desk: Desk, s3_server: S3UnderTest) -> None:
    bucket = s3_server.bucket()
    s3_server.client().put_object(Bucket=bucket, Key="x/a.jpg", Body=b"image")
    sidecars = ["--write-back", "sidecar", "--sidecar-prefix", "s3://no-such-bucket/tags"]
    said = desk.refused(3, "run", f"s3://{bucket}/x", *sidecars, **KEYS, **s3_server.environment)
    assert said.startswith("no bucket 'no-such-bucket' at this endpoint")


def test_a_missing_bucket_is_not_found(desk: Desk, s3_server: S3UnderTest) -> None:
    said = desk.refused(3, "run", "s3://no-such-bucket/x", **KEYS, **s3_server.environment)
    assert said.startswith("no bucket 'no-such-bucket' at this endpoint")


def test_a_prefix_without_images_is_not_found(desk: Desk, s3_server: S3UnderTest) -> None:
    source = f"s3://{s3_server.bucket()}/x"
    assert desk.refused(3, "run", source, **KEYS, **s3_server.environment) == f"no images in {source}"


def test_wrong_aws_keys_are_named(desk: Desk) -> None:
    refusal = "<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
    with canned_s3(lambda _: (403, refusal)) as s3:
        said = desk.refused(2, "run", "s3://bucket/x", **KEYS, **AWS, TAGMILL_S3_ENDPOINT_URL=s3.url)
    assert said.startswith("S3 refused the credentials (InvalidAccessKeyId): set AWS_ACCESS_KEY_ID")


def test_new_versions_need_a_word_where_nobody_can_be_asked(desk: Desk, s3_server: S3UnderTest) -> None:
    bucket, client = s3_server.bucket(), s3_server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="x.jpg", Body=PIXEL)
    said = desk.refused(2, "run", f"s3://{bucket}/x", **KEYS, **s3_server.environment)
    assert said.startswith(f"s3://{bucket} keeps versions: ")
    assert said.endswith("say --allow-new-versions, or --write-back tags, annotation or sidecar")


def test_without_aws_keys_the_user_is_told_to_set_them(desk: Desk) -> None:
    said = desk.refused(2, "run", "s3://bucket/x", **KEYS)
    assert said.startswith("no usable AWS credentials (NoCredentialsError): set AWS_ACCESS_KEY_ID")


def test_an_s3_that_is_not_there_is_named(desk: Desk) -> None:
    said = desk.refused(2, "run", "s3://bucket/x", **KEYS, **NO_S3)
    assert said.startswith("cannot reach S3 at 127.0.0.1:")


def test_a_list_without_its_column_is_refused(desk: Desk) -> None:
    (desk.folder / "list.csv").write_text("name,address\na,b\n")
    assert "column" in desk.refused(2, "run", "list.csv", **KEYS)


# --- Redis, run store, state ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["run", "photos", "--shared-path"], ["worker"]])
def test_a_redis_that_is_down_is_a_temporary_error(desk: Desk, arguments: list[str]) -> None:
    said = desk.refused(5, *arguments, **KEYS, **NO_REDIS)
    assert said.startswith("TAGMILL_REDIS_URL: Redis does not answer")


@pytest.mark.parametrize("arguments", [["run", "photos", "--shared-path"], ["worker"]])
def test_a_redis_that_evicts_is_refused(desk: Desk, arguments: list[str]) -> None:
    with running_redis(0) as server, server.sync_client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        said = desk.refused(2, *arguments, **KEYS, TAGMILL_REDIS_URL=server.url)
    assert said.startswith("TAGMILL_REDIS_URL: maxmemory-policy is allkeys-lru")


def test_a_run_store_that_is_not_there_is_named(desk: Desk, s3_server: S3UnderTest) -> None:
    store = "s3://no-such-bucket/runs"
    said = desk.refused(2, "run", "photos", TAGMILL_RUN_STORE=store, **s3_server.environment)
    assert "TAGMILL_RUN_STORE" in said
    assert "NoSuchBucket" in said
    (desk.folder / "file").write_text("in the way")
    said = desk.refused(2, "run", "photos", TAGMILL_RUN_STORE=f"{desk.folder}/file")
    assert "Not a directory" in said


def test_a_run_store_without_create_if_absent_is_refused(desk: Desk) -> None:
    with forgetful_s3() as s3:
        said = desk.refused(2, "run", "photos", TAGMILL_RUN_STORE="s3://bucket/runs", **s3.environment)
    assert "s3://bucket/runs has no create-if-absent" in said


def test_a_state_folder_that_cannot_be_used_is_named(desk: Desk) -> None:
    (desk.folder / "file").write_text("in the way")
    said = desk.refused(2, "run", "photos", TAGMILL_STATE_DIR=f"{desk.folder}/file")
    assert said.startswith(f"TAGMILL_STATE_DIR {desk.folder}/file: ")


def test_a_full_disk_is_a_temporary_error(desk: Desk) -> None:
    full = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]  # not a byte may be written to any file
    said = desk.refused(5, "run", "photos", prefix=full)
    assert said.startswith(f"TAGMILL_STATE_DIR {desk.folder}/state: ")


def test_a_second_run_in_the_same_state_folder_is_refused_with_the_pid_of_the_first(
    tmp_path: Path, sandbox: SandboxUnderTest
) -> None:
    with deployed(tmp_path, **sandbox.environment, TAGMILL_RATE="1/s") as deployment:
        first = deployment.start("run", "-", "--run-id", "first", said=b"\n".join([b"a" * 20] * 30))
        deployment.until((tmp_path / "state" / "embedded.json").exists, "the first run goes on")
        second = deployment.finish(deployment.start("run", "-", "--run-id", "second", said=b"b" * 20), code=2)
        assert f"another run is going on here (pid {first.pid})" in second.stderr
        assert not deployment.run("second").folder.exists()


def test_a_run_of_a_newer_tagmill_is_not_guessed_at(desk: Desk) -> None:
    run = desk.folder / "store/runs/newer"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"run_id": "newer", "format": 2, "unheard_of": true}')
    for arguments in (["run", "--resume", "newer"], ["status", "newer"]):
        said = desk.type(*arguments)
        assert (said.code, said.lines) == (
            2,
            ["tagmill: run newer was written by a newer Tagmill (format 2); upgrade"],
        )


# --- the account, and images that fail --------------------------------------------------------------------


@pytest.mark.parametrize("source", ["photos", "list.txt"])
def test_a_wrong_secret_stops_the_run_with_what_to_check(
    desk: Desk, sandbox: SandboxUnderTest, source: str
) -> None:
    (desk.folder / "list.txt").write_text("\n".join(f"handle{number:014}" for number in range(40)))
    settings = {**sandbox.environment, "TAGMILL_FILESTACK_APP_SECRET": "of-somebody-else"}
    said = desk.type("run", source, "--run-id", "mine", **settings)
    assert said.code == 7, said
    assert "paused (credentials)" in said.stdout
    assert "check the key, the secret" in said.stdout or "check both" in said.stdout
    assert "tagmill resume mine" in said.stdout
    assert "Traceback" not in said.stderr
    assert not (desk.folder / "store/runs/mine/manifest.jsonl").exists()
    assert sandbox.stats()["billed"] == 0


def test_unreadable_files_cost_only_themselves_and_the_runs_name_is_taken(
    desk: Desk, sandbox: SandboxUnderTest
) -> None:
    photos = desk.folder / "photos"
    (photos / "dangling.png").symlink_to("nowhere")
    (photos / "folder.png").mkdir()
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "text.png").write_text("no picture")
    os.mkfifo(photos / "pipe.png")
    settings = {**sandbox.environment, "TAGMILL_RATE": "100/s"}
    said = desk.type("run", "photos", "--run-id", "mine", **settings)
    assert said.code == 0, said
    rows = Deployment(desk.folder, {}).run("mine").rows()
    assert {row["source"]["path"]: row["status"] for row in rows} == {
        "0.png": "tagged",
        "1.png": "tagged",
        "2.png": "tagged",
        "text.png": "skipped",
    }
    said = desk.type("run", "photos", "--run-id", "mine", **settings)
    taken = "tagmill: run mine exists: go on with `tagmill run --resume mine`"
    assert (said.code, said.stdout, said.lines) == (2, "", [taken])


def test_a_file_that_vanishes_after_planning_is_a_failed_row(
    tmp_path: Path, sandbox: SandboxUnderTest
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(PIXEL)
    with deployed(tmp_path, **sandbox.environment, TAGMILL_RATE="2/s", TAGMILL_CONCURRENCY="1") as deployment:
        run = deployment.start("run", "photos", "--run-id", "mine")
        deployment.until(lambda: deployment.run("mine").planned, "the plan")
        (photos / "5.png").unlink()
        (photos / "4.png").unlink()
        (photos / "4.png").mkdir()
        deployment.finish(run, code=1)
        rows = {row["source"]["path"]: row for row in deployment.run("mine").rows()}
    assert [rows[f"{number}.png"]["status"] for number in range(4)] == ["tagged"] * 4
    assert (rows["5.png"]["status"], rows["5.png"]["error"]["code"]) == ("failed", "missing")
    assert rows["4.png"]["status"] in {"skipped", "failed"}
    assert rows["4.png"]["calls"] == rows["5.png"]["calls"] == 0


@pytest.mark.parametrize("options", [["--port", "0"], ["--config", "sandbox.json"]])
def test_the_sandbox_says_where_it_is_and_ends_when_told(desk: Desk, options: list[str]) -> None:
    (desk.folder / "sandbox.json").write_text('{"port": 0}')
    command = [*CLI, "sandbox", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, cwd=desk.folder, env=desk.environment, text=True
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith("sandbox at http://127.0.0.1:")
            assert f":{DEFAULT_PORT};" not in said
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + WITHIN_SECONDS
            assert process.wait(deadline - time.monotonic()) in {0, -signal.SIGTERM}
        finally:
            process.kill()
