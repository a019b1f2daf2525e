"""`tagmill export` as people use it: to a pipe, a file and a bucket, filtered, and without its extra."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from fakes.rows import a_row, finished_run
from fakes.runs import RUN, SmallRun
from servers.fleet import CLI, Deployment, Program, deployed
from servers.s3 import S3UnderTest

from tagmill.worker.store.folder import Folder

ROWS = [
    a_row(id="coast", raw_tags={"auto": {"Sea": 90, "sky": 40}, "user": None}),
    a_row(id="-1+2", raw_tags={"auto": {"car": 95, "sky": 80}, "user": None}),
    a_row(id="broken", status="failed", raw_tags=None),
]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path) as deployment:
        finished_run(Folder(deployment.store), ROWS)
        yield deployment


def export(deployment: Deployment, *arguments: str, code: int = 0) -> Program:
    return deployment.finish(deployment.start("export", RUN, *arguments), code)


def ids(text: str) -> list[str]:
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_rows_go_to_stdout_and_nothing_else_does(deployment: Deployment) -> None:
    whole, some = export(deployment), export(deployment, "--tag", "s*", "--min-confidence", "50")
    with deployment.explained():
        assert ids(whole.stdout) == ["coast", "-1+2", "broken"]
        assert ids(some.stdout) == ["coast", "-1+2"]
        assert ids(export(deployment, "--status", "failed").stdout) == ["broken"]
        assert (whole.stderr, some.stderr) == ("", "")


def test_files_are_written_in_the_format_of_their_name(deployment: Deployment) -> None:
    told = export(deployment, "--output", "a.csv", "--explode", "--json").json
    export(deployment, "-o", "a.parquet")
    with deployment.explained():
        text = (deployment.folder / "a.csv").read_text()
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [(line["id"], line["tag"]) for line in lines] == [
            ("coast", "Sea"),
            ("coast", "sky"),
            ("'-1+2", "car"),
            ("'-1+2", "sky"),
        ]
        size = (deployment.folder / "a.csv").stat().st_size
        assert told == {
            "schema": 1,
            "run_id": RUN,
            "complete": True,
            "format": "csv",
            "output": "a.csv",
            "images": 3,
            "bytes": size,
        }
        table = pq.read_table(deployment.folder / "a.parquet")
        assert table.column("id").to_pylist() == ["coast", "-1+2", "broken"]
        assert not list(deployment.folder.glob(".tagmill-*"))


def test_an_export_to_a_bucket(deployment: Deployment, s3_server: S3UnderTest) -> None:
    bucket = s3_server.bucket()
    deployment.environment |= s3_server.environment
    export(deployment, "--output", f"s3://{bucket}/out/a.jsonl")
    answer = s3_server.client().get_object(Bucket=bucket, Key="out/a.jsonl")
    assert ids(answer["Body"].read().decode()) == ["coast", "-1+2", "broken"]


def test_a_run_that_goes_on_is_exported_as_far_as_it_is_settled(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment:
        small = SmallRun(Folder(deployment.store))
        small.shard(4, 2)
        small.commit(small.chunks[1])
        program = export(deployment)
        with deployment.explained():
            assert ids(program.stdout) == ["filestack:h2", "filestack:h3"]
            assert program.stderr.startswith(f"run {RUN} is not finished: this is about the images")


def test_without_pyarrow_parquet_names_the_extra(deployment: Deployment) -> None:
    hidden = deployment.folder / "hidden"
    hidden.mkdir()
    (hidden / "pyarrow.py").write_text("raise ModuleNotFoundError('No module named pyarrow')")

    def export(*arguments: str) -> Program:
        return deployment.start_command([*CLI, "export", RUN, *arguments], "export", PYTHONPATH=str(hidden))

    program = deployment.finish(export("--output", "a.parquet"), code=2)
    assert program.stderr == "tagmill: Parquet needs pyarrow: install tagmill[parquet]\n"
    assert deployment.finish(export("--format", "csv")).stdout
    assert not (deployment.folder / "a.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "--json would print amid the rows: name a file with --output"),
        (["--format", "xlsx"], "--format xlsx: use one of jsonl, csv, parquet"),
        (["--status", "fine"], "--status fine: use one of tagged, failed, skipped"),
        (["--output", "gone/a.csv"], "--output gone/a.csv: No such file or directory"),
        (["--output", "s3://bucket"], "--output s3://bucket: name an object, as in s3://bucket/key"),
    ],
)
def test_what_makes_no_sense_is_refused(deployment: Deployment, arguments: list[str], said: str) -> None:
    program = export(deployment, *arguments, code=2)
    (line,) = program.stderr.splitlines()
    assert line.startswith(f"tagmill: {said}")
    assert program.stdout == ""


def test_a_reader_that_has_seen_enough_is_no_failure(deployment: Deployment, tmp_path: Path) -> None:
    many = Folder(tmp_path / "many")
    finished_run(many, [a_row()] * 5_000)
    settings = {**os.environ, **deployment.environment, "TAGMILL_RUN_STORE": str(tmp_path / "many")}
    command = [*CLI, "export", RUN]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert orjson.loads(process.stdout.readline())["index"] == 0
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_parquet_is_kept_from_a_terminal(deployment: Deployment) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*CLI, "export", RUN, "--format", "parquet"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, **deployment.environment},
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert (done.returncode, done.stderr) == (2, b"tagmill: Parquet is no text: name a file with --output\n")
