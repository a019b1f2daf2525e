"""What every place for a run store promises; a folder with and without hard links, S3, and the fake."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.files import MemoryFiles
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.errors import ConfigError, RunStoreUnavailableError
from tagmill.worker.models import Chunk
from tagmill.worker.s3 import s3_client
from tagmill.worker.store.base import Files, probe
from tagmill.worker.store.bucket import Bucket
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.opening import open_files, open_probed
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FOLDERS = ["folder", "folder without links"]
LISTABLE = [*FOLDERS, "moto", "memory"]
#: moto looks and then writes, so of several creators at once more than one may win; the strict server has
#: a lock, and no folders.
ATOMIC = [*FOLDERS, "strict S3", "memory"]


@pytest.fixture(scope="module")
def strict_s3() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture(scope="module")
def strict_client(strict_s3: StrictS3UnderTest) -> S3Client:
    return strict_s3.client()


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    match request.param:
        case "folder":
            return Folder(tmp_path / "store")
        case "folder without links":
            monkeypatch.setattr(os, "link", refuse_links)
            return Folder(tmp_path / "store")
        case "moto":
            moto: S3UnderTest = request.getfixturevalue("s3_server")
            return Bucket(moto.client(), moto.bucket(), "some/prefix")
        case "strict S3":
            server: StrictS3UnderTest = request.getfixturevalue("strict_s3")
            return Bucket(request.getfixturevalue("strict_client"), server.new_bucket(), "")
    return MemoryFiles()


def refuse_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


every_place = pytest.mark.parametrize("files", [*LISTABLE, "strict S3"], indirect=True)
every_listable = pytest.mark.parametrize("files", LISTABLE, indirect=True)
every_atomic = pytest.mark.parametrize("files", ATOMIC, indirect=True)


@every_place
def test_what_is_created_can_be_read_and_is_never_overwritten(files: Files) -> None:
    assert files.create("a/b/first", b"one")
    assert not files.create("a/b/first", b"two")
    assert files.read("a/b/first") == b"one"
    assert files.exists("a/b/first")


@every_place
def test_content_is_any_bytes_of_any_length(files: Files) -> None:
    content = bytes(range(256)) * 1_000
    assert files.create("binary", content)
    assert files.create("empty", b"")
    assert files.read("binary") == content
    assert files.read("empty") == b""


@every_place
def test_what_is_missing_is_a_missing_file(files: Files) -> None:
    with pytest.raises(FileNotFoundError):
        files.read("a/missing")
    with pytest.raises(FileNotFoundError):
        files.open("a/missing")
    assert not files.exists("a/missing")
    files.remove("a/missing")


@every_place
def test_a_stream_can_be_read_twice(files: Files) -> None:
    files.create("list", b"line 1\nline 2\n")
    with files.open("list") as stream:
        assert stream.readline() == b"line 1\n"
        stream.seek(0)
        assert stream.read() == b"line 1\nline 2\n"


@every_place
def test_replacing_takes_the_place_of_what_was_there(files: Files) -> None:
    files.replace("views/rows", [b"1\n", b"2\n"])
    assert files.read("views/rows") == b"1\n2\n"
    files.replace("views/rows", iter([b"3\n"]))
    assert files.read("views/rows") == b"3\n"


@every_place
def test_what_is_removed_is_gone_and_can_be_created_again(files: Files) -> None:
    files.create("scratch", b"1")
    files.remove("scratch")
    assert not files.exists("scratch")
    assert files.create("scratch", b"2")


@every_listable
def test_a_folder_is_removed_with_all_that_is_in_it(files: Files) -> None:
    for name in ("runs/a/run.json", "runs/a/passes/0000/parts/1", "runs/ab/run.json"):
        files.create(name, b"1")
    files.remove_below("runs/a")
    files.remove_below("runs/nowhere")
    assert list(files.folders("runs")) == ["ab"]
    assert files.exists("runs/ab/run.json")


@every_listable
def test_what_a_killed_probe_left_is_found(files: Files) -> None:
    files.create(".probe-0123", b"1")
    files.create("runs/a/run.json", b"1")
    [(name, made)] = files.leftovers()
    assert name == ".probe-0123"
    assert made.tzinfo is not None


@every_listable
def test_names_are_the_files_of_one_folder_in_name_order(files: Files) -> None:
    for name in (
        "f/00000010",
        "f/00000002",
        "f/00000001-a",
        "f/00000001",
        "f/sub/00000003",
        "f2/x",
        "f",
        "g",
    ):
        if name != "f" or not isinstance(files, Folder):  # a file cannot be a folder, a key can
            files.create(name, b"x")
    assert list(files.names("f")) == ["00000001", "00000001-a", "00000002", "00000010"]
    assert list(files.names("f/")) == list(files.names("f"))
    assert list(files.names("f/sub")) == ["00000003"]
    assert list(files.names("nowhere")) == []


@every_listable
def test_names_go_on_after_any_name_whether_it_exists_or_not(files: Files) -> None:
    for name in ("00000001-00000", "00000001-00010", "00000002-00000"):
        files.create(f"parts/{name}.jsonl.gz", b"x")
    assert list(files.names("parts", "00000001")) == list(files.names("parts"))
    assert list(files.names("parts", "00000001-00010.jsonl.gz")) == ["00000002-00000.jsonl.gz"]
    assert list(files.names("parts", "00000002")) == ["00000002-00000.jsonl.gz"]
    assert list(files.names("parts", "00000003")) == []


@every_listable
def test_folders_are_those_directly_below_in_name_order(files: Files) -> None:
    for name in ("runs/b/run.json", "runs/a/run.json", "runs/a/passes/0000/plan.json", "runs/file", "c/d"):
        files.create(name, b"x")
    assert list(files.folders("runs")) == ["a", "b"]
    assert list(files.folders("runs/a")) == ["passes"]
    assert list(files.folders("nowhere")) == []


def test_listings_of_several_pages_are_whole(s3_server: S3UnderTest) -> None:
    client = s3_server.client()
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", three_a_page)
    files = Bucket(client, s3_server.bucket(), "pages")
    names = [f"{number:08d}" for number in range(10)]
    for name in names:
        files.create(f"many/{name}", b"")
        files.create(f"{name}/file", b"")
    assert list(files.names("many")) == names
    assert list(files.names("many", names[4])) == names[5:]
    assert list(files.folders("")) == [*names, "many"]


def three_a_page(params: dict[str, object], **_: object) -> None:
    params["MaxKeys"] = 3


@every_atomic
def test_of_many_creators_at_once_exactly_one_wins(files: Files) -> None:
    start = threading.Barrier(8)

    def create(creator: int) -> list[bool]:
        start.wait()
        return [files.create(f"race/{name}", content_of(creator)) for name in range(20)]

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(create, range(8)))
    for name in range(20):
        winners = [creator for creator in range(8) if wins[creator][name]]
        assert len(winners) == 1
        assert files.read(f"race/{name}") == content_of(winners[0])


@every_atomic
def test_a_reader_never_sees_half_a_file(files: Files) -> None:
    versions = {content_of(number) for number in range(10)}
    files.replace("view", [content_of(0)])
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set() or not reads:
            assert files.read("view") in versions
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(read)
        for number in range(1, 40):
            content = content_of(number % 10)
            files.replace("view", [content[:1000], content[1000:]])
        done.set()
        assert reader.result() > 0


def content_of(creator: int) -> bytes:
    return bytes([creator]) * 50_000


# --- what the store builds on it --------------------------------------------------------------------------


@every_listable
@pytest.mark.parametrize("run_id", ["a-b", "0a9", "x" * 64, "2026-11-22-0"])
def test_a_run_of_any_allowed_name_is_created_once_and_found(files: Files, run_id: str) -> None:
    spec = RunSpec(run_id, "2026-11-22T00:00:00+00:00", {}, "fake", ())
    runs = Runs(files)
    assert runs.create(spec)
    assert not runs.create(spec)
    assert runs.read(run_id) == spec
    assert list(runs.ids()) == [run_id]


@every_listable
@pytest.mark.parametrize(
    "run_id", ["", "ab", "x" * 65, "-abc", "Abc", "a_b", "a.b", "../abc", "a/b", "abc\n", "äbc"]
)
def test_any_other_name_is_refused_before_anything_is_written(files: Files, run_id: str) -> None:
    with pytest.raises(ConfigError, match="run id"):
        Runs(files).create(RunSpec(run_id, "2026-11-22T00:00:00+00:00", {}, "fake", ()))
    with pytest.raises(ConfigError, match="no run"):
        Runs(files).read(run_id)
    assert list(files.folders("")) == list(files.names("")) == []


@pytest.mark.parametrize("files", [*FOLDERS, "memory"], indirect=True)
def test_controls_of_concurrent_writers_are_all_kept_and_the_last_one_counts(files: Files) -> None:
    def write(writer: int) -> list[int]:
        return [
            Runs(files).set_control("a-run", Control(verb=Verb.PAUSE, reason=f"{writer}-{turn}")).n
            for turn in range(5)
        ]

    with ThreadPoolExecutor(4) as pool:
        numbers = [n for written in pool.map(write, range(4)) for n in written]
    assert sorted(numbers) == list(range(1, 21))
    assert Runs(files).control("a-run").n == 20


@every_place
def test_of_two_parts_of_one_chunk_the_first_counts(files: Files) -> None:
    parts, chunk = Parts(files, "a-run", 0), Chunk("a-run", 0, 3, 10, 5)
    assert parts.commit(chunk, [{"row": 1}])
    assert not parts.commit(chunk, [{"row": 2}])
    assert list(parts.rows(chunk)) == [{"row": 1}]


# --- the probe --------------------------------------------------------------------------------------------


@every_place
def test_the_probe_passes(files: Files) -> None:
    probe(files)


@every_listable
def test_the_probe_leaves_nothing(files: Files) -> None:
    probe(files)
    assert list(files.names("")) == list(files.folders("")) == []


def test_the_probe_refuses_a_server_that_ignores_conditions(strict_s3: StrictS3UnderTest) -> None:
    bucket = strict_s3.new_bucket(honours_put_conditions=False)
    with pytest.raises(ConfigError, match=rf"s3://{bucket}/runs has no create-if-absent"):
        open_probed(f"s3://{bucket}/runs", strict_s3.client)
    assert strict_s3.store.buckets[bucket].objects == {}


def test_a_store_is_opened_by_its_name(tmp_path: Path, strict_s3: StrictS3UnderTest) -> None:
    assert isinstance(open_files(str(tmp_path), strict_s3.client), Folder)
    assert open_files("s3://bucket/a/b/", strict_s3.client).location == "s3://bucket/a/b"
    assert open_files("s3://bucket", strict_s3.client).location == "s3://bucket"
    with pytest.raises(ConfigError, match="TAGMILL_RUN_STORE"):
        open_files("s3://", strict_s3.client)


# --- a folder among processes -----------------------------------------------------------------------------

#: Reads its orders from the command line; `without links` first, then what to do.
CHILD = """
import errno, os, sys
from pathlib import Path
from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.store.folder import Folder

links, root, what, *rest = sys.argv[1:]
if links == "folder without links":
    def refuse(*_): raise OSError(errno.EPERM, "Operation not permitted")
    os.link = refuse
folder = Folder(root)

def tell(word):
    print(word, flush=True)

def hang(*_, **__):
    tell("there")
    sys.stdin.read()

if what == "race":
    tell("ready")
    sys.stdin.readline()
    content = rest[0].encode() * 50_000
    print(*[name for name in range(60) if folder.create(f"race/{name}", content)], flush=True)
elif what == "die":
    if rest[0] == "written":
        os.fsync = hang
    elif rest[0] == "publishing":
        if links == "folder":
            os.link = hang
        else:
            Path.rename = hang
    elif rest[0] == "published":
        Path.unlink = hang
        real = Path.rename
        Path.rename = lambda self, target: (real(self, target), hang())
    folder.create("dying/file", b"x" * 50_000)
elif what == "fill":
    try:
        for number in range(100):
            folder.create(f"full/{number:08d}", b"x" * 30_000)
    except RunStoreUnavailableError as error:
        tell(f"refused: {error}")
    contents = {len(folder.read(f"full/{name}")) for name in folder.names("full")}
    left = [name for name in os.listdir(os.path.join(root, "full")) if name[0] == "." and name != ".tmp-lock"]
    tell(f"{sorted(contents)} {left}")
"""

Child = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def child() -> Iterator[Child]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-c", CHILD, *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("links", FOLDERS)
def test_of_many_processes_exactly_one_wins_and_its_file_is_whole(
    tmp_path: Path, child: Child, links: str
) -> None:
    racers = [child(links, str(tmp_path), "race", str(number)) for number in range(3)]
    assert [heard(racer) for racer in racers] == ["ready"] * 3
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    files, won = Folder(tmp_path), [heard(racer).split() for racer in racers]
    assert sorted(int(name) for names in won for name in names) == list(range(60))
    for number, names in enumerate(won):
        assert all(files.read(f"race/{name}") == str(number).encode() * 50_000 for name in names)


@pytest.mark.parametrize("links", FOLDERS)
@pytest.mark.parametrize("point", ["written", "publishing"])
def test_a_creator_killed_before_it_published_leaves_nothing_under_the_name(
    tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch, links: str, point: str
) -> None:
    dying = child(links, str(tmp_path), "die", point)
    assert heard(dying) == "there"
    dying.kill()
    dying.wait()
    files = Folder(tmp_path)
    assert not files.exists("dying/file")
    assert list(files.names("dying")) == []
    if links != "folder":
        monkeypatch.setattr(os, "link", refuse_links)  # a lock of the dead would hold us
    assert files.create("dying/file", b"whole")


@pytest.mark.parametrize("links", FOLDERS)
def test_a_creator_killed_after_it_published_leaves_the_whole_file(
    tmp_path: Path, child: Child, links: str
) -> None:
    dying = child(links, str(tmp_path), "die", "published")
    assert heard(dying) == "there"
    dying.kill()
    dying.wait()
    assert Folder(tmp_path).read("dying/file") == b"x" * 50_000
    assert list(Folder(tmp_path).names("dying")) == ["file"]


PRIVATE_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
MOUNT = 'mount -t tmpfs -o size=100k tmpfs "$0" && exec "$@"'


def small_disk(folder: Path) -> tuple[str, ...]:
    """What a command must be run with to find little room in the folder."""
    mounted = (*PRIVATE_MOUNTS, "sh", "-c", MOUNT, str(folder))
    try:
        subprocess.run([*mounted, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "prlimit", "--fsize=20000"  # no private mounts here
    return mounted


@pytest.mark.parametrize("links", FOLDERS)
def test_a_full_disk_is_one_line_and_tears_no_file(tmp_path: Path, child: Child, links: str) -> None:
    full = child(links, str(tmp_path), "fill", before=small_disk(tmp_path))
    assert heard(full).startswith(f"refused: run store {tmp_path}: full/0000000")
    assert heard(full) in {"[30000] []", "[] []"}


def test_a_file_that_may_not_grow_is_one_line_and_tears_no_file(tmp_path: Path, child: Child) -> None:
    limited = child("folder", str(tmp_path), "fill", before=("prlimit", "--fsize=20000"))
    assert heard(limited) == f"refused: run store {tmp_path}: full/00000000: File too large"
    assert heard(limited) == "[] []"


# --- a folder of its own kind -----------------------------------------------------------------------------


def test_a_link_whose_confirmation_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link_twice(source: Path, target: Path) -> None:
        real_link(source, target)
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert Folder(tmp_path).create("file", b"ours")


def test_what_others_leave_in_a_folder_is_not_ours(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    files.create("plan/00000000.jsonl.gz", b"")
    for name in (".DS_Store", ".nfs000000000000001", ".tmp-lock"):
        (tmp_path / "plan" / name).touch()
    (tmp_path / ".hidden").mkdir()
    assert list(files.names("plan")) == ["00000000.jsonl.gz"]
    assert list(files.folders("")) == ["plan"]


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = Folder(tmp_path / "file")
    everything: list[Callable[[], object]] = [*uses(files), partial(list, files.names("a"))]
    for use in everything:
        with pytest.raises(RunStoreUnavailableError, match=r"run store \S+/file: a: \w[\w ]+$"):
            use()


def test_a_name_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunStoreUnavailableError, match="File name too long"):
        Folder(tmp_path).exists("x" * 300)


# --- S3 of its own kind -----------------------------------------------------------------------------------

CONFLICT = Fault(409, "ConditionalRequestConflict")
REPLY_LOST = Fault(applied=True, hangs_up=True)


@pytest.fixture
def repeating(strict_s3: StrictS3UnderTest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A store whose client repeats what got no answer, as in the program."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = s3_client(strict_s3.url, connections=2, retries=2)
    return Bucket(client, strict_s3.new_bucket(), "")


def test_a_create_that_conflicts_with_another_is_repeated(
    strict_s3: StrictS3UnderTest, repeating: Bucket
) -> None:
    for _ in range(3):
        strict_s3.faults.once("PutObject", CONFLICT)
    assert repeating.create("file", b"1")


def test_conflicts_without_end_are_one_line(strict_s3: StrictS3UnderTest, repeating: Bucket) -> None:
    for _ in range(10):
        strict_s3.faults.once("PutObject", CONFLICT)
    with pytest.raises(RunStoreUnavailableError, match="file: conflicting writes do not end"):
        repeating.create("file", b"1")


def test_a_create_whose_reply_was_lost_is_ours(strict_s3: StrictS3UnderTest, repeating: Bucket) -> None:
    strict_s3.faults.once("PutObject", REPLY_LOST)
    assert repeating.create("file", b"ours")


def test_a_repeated_create_that_met_another_one_is_not_ours(
    strict_s3: StrictS3UnderTest, strict_client: S3Client, repeating: Bucket
) -> None:
    rival = Bucket(strict_client, repeating.location.removeprefix("s3://"), "")

    def rival_first() -> Fault:
        assert rival.create("file", b"theirs")
        return Fault(hangs_up=True)

    strict_s3.faults.before("PutObject", rival_first)
    assert not repeating.create("file", b"ours")
    assert repeating.read("file") == b"theirs"


def test_s3_that_does_not_answer_is_one_line(strict_client: S3Client) -> None:
    files = Bucket(strict_client, "no-such-bucket", "runs")
    for use in uses(files):
        with pytest.raises(
            RunStoreUnavailableError, match=r"^run store s3://no-such-bucket/runs: .*NoSuchBucket$"
        ):
            use()
    with running_strict_s3() as gone:
        files = Bucket(gone.client(), "bucket", "runs")
    for use in uses(files):
        with pytest.raises(RunStoreUnavailableError, match=r"^run store s3://bucket/runs: .*Error$"):
            use()


def uses(files: Files) -> list[Callable[[], object]]:
    """All that asks the server for something whose absence it can tell."""
    return [
        lambda: files.create("a", b""),
        lambda: files.replace("a", [b""]),
        lambda: files.read("a"),
        lambda: files.remove("a"),
    ]
