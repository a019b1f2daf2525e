"""From settings and a run's frozen spec to parts that work together."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.runs import CREATED
from servers.fleet import PIXEL
from servers.redis import RedisUnderTest
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.config.settings import Settings, load_settings
from tagmill.worker.account import account_id
from tagmill.worker.assembly import MAX_LANES, MIN_LANES, Assembly, lanes_for
from tagmill.worker.engine_config import engine_config
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.models import Chunk, ImageRef, LocalFile
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rate import Rate
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.plan import Plan, Planned, ShardHeader
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb

RUN = "a-run"
CHUNK = Chunk(RUN, 0, 0, 0, 3)
prefixes = map("assembly-{}".format, itertools.count())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxUnderTest]:
    with running_sandbox() as server:
        yield server


@pytest.fixture
def settings(sandbox: SandboxUnderTest, redis_server: RedisUnderTest, tmp_path: Path) -> Settings:
    return load_settings(
        {
            "redis_url": redis_server.url,
            "redis_prefix": next(prefixes),
            "run_store": str(tmp_path / "store"),
            "filestack_api_key": sandbox.key,
            "filestack_app_secret": sandbox.secret,
            "filestack_cdn_url": sandbox.url,
            "filestack_api_url": sandbox.api_url,
            "rate": "1000/s",
        }
    )


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Assembly]:
    assembly = Assembly(settings, processes=1, shutting_down=lambda: False)
    try:
        yield assembly
    finally:
        await assembly.aclose()


def plan(settings: Settings, library: Path, **fields: Any) -> Folder:
    """A run of three pictures."""
    files = Folder(settings.run_store)
    Runs(files).create(RunSpec(RUN, CREATED, {}, "sandbox", fields.pop("write_back", ("sidecar",)), **fields))
    library.mkdir()
    refs = []
    for number in range(3):
        (library / f"{number}.ppm").write_bytes(PIXEL)
        stat = (library / f"{number}.ppm").stat()
        file = LocalFile.at(bytes(library), b"%d.ppm" % number, stat.st_size, stat.st_mtime_ns)
        refs.append(Planned(ImageRef(file)))
    Plan(files, RUN, 0).write(ShardHeader(0, 3, 0, 3, {}, 3), refs)
    return files


async def test_a_chunk_is_tagged_written_and_committed(
    settings: Settings, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    files = plan(settings, tmp_path / "photos")
    async with assembled(settings) as assembly:
        assert await assembly.run(CHUNK) == "committed"
        assert await assembly.run(CHUNK) == "committed"  # from what it keeps, and from the part
    rows = list(Parts(files, RUN, 0).rows(CHUNK))
    assert [(row["status"], row["engine"], row["transfer"], row["calls"]) for row in rows] == [
        ("tagged", "sandbox", "upload", 1)
    ] * 3
    assert [row["writes"]["sidecar"]["status"] for row in rows] == ["written"] * 3
    assert len(list((tmp_path / "photos").glob("*.tags.json"))) == 3
    assert sandbox.stats()["calls"] == 3


async def test_what_a_run_froze_decides_what_is_asked(settings: Settings, tmp_path: Path) -> None:
    """Whatever the worker that comes by is set to."""
    files = plan(settings, tmp_path / "photos", tags_version=1, resize=100)
    async with assembled(settings.model_copy(update={"filestack_tags_version": 2})) as assembly:
        await assembly.run(CHUNK)
    for row in Parts(files, RUN, 0).rows(CHUNK):
        assert (row["engine_version"], row["engine_config"]) == ("1", engine_config("sandbox", 1, 100))


async def test_a_runs_policy_decides_what_is_written(settings: Settings, tmp_path: Path) -> None:
    policy = TagPolicy(max_tags=1, prefix="ai:")
    files = plan(settings, tmp_path / "photos", policy=policy.to_json())
    async with assembled(settings) as assembly:
        await assembly.run(CHUNK)
    for row in Parts(files, RUN, 0).rows(CHUNK):
        assert len(row["raw_tags"]["auto"]) > 1
        assert (row["tags"], row["policy"]) == (policy.apply(row["raw_tags"]), policy.hash)
        sidecar = orjson.loads((tmp_path / f"photos/{row['source']['path']}.tags.json").read_bytes())
        assert (sidecar["tags"], sidecar["policy"]) == (row["tags"], policy.hash)


async def test_the_runs_own_rate_is_a_cap_beside_the_accounts(
    settings: Settings, redis_server: RedisUnderTest, tmp_path: Path
) -> None:
    plan(settings, tmp_path / "photos", rate="900/s", write_back=())
    async with assembled(settings) as assembly:
        await assembly.run(CHUNK)
    keys = Keys(settings.redis_prefix)
    with redis_server.sync_client() as client:
        scopes = [keys.limit(f"account:{account_id(settings)}"), keys.limit(f"run:{RUN}")]
        assert client.exists(*scopes) == 2


async def test_a_paused_run_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    files = plan(settings, tmp_path / "photos")
    Runs(files).set_control(RUN, Control(verb=Verb.PAUSE))
    async with assembled(settings) as assembly:
        assert await assembly.run(CHUNK) == "paused"


async def test_an_unknown_run_is_named(settings: Settings) -> None:
    async with assembled(settings) as assembly:
        with pytest.raises(NotFoundError, match=RUN):
            await assembly.run(CHUNK)


async def test_a_run_of_a_newer_tagmill_is_not_guessed_at(settings: Settings, tmp_path: Path) -> None:
    plan(settings, tmp_path / "photos")
    spec = Path(settings.run_store) / "runs" / RUN / "run.json"
    spec.write_bytes(orjson.dumps({**orjson.loads(spec.read_bytes()), "format": 2, "unheard_of": True}))
    async with assembled(settings) as assembly:
        with pytest.raises(ConfigError, match=r"newer Tagmill \(format 2\); upgrade"):
            await assembly.run(CHUNK)


async def test_a_worker_without_redis_or_credentials_is_refused(
    settings: Settings, redis_server: RedisUnderTest, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="TAGMILL_REDIS_URL is not set"):
        Assembly(load_settings(), processes=1, shutting_down=lambda: False)
    plan(settings, tmp_path / "photos")
    without = load_settings({"redis_url": redis_server.url, "run_store": settings.run_store})
    async with assembled(without) as assembly:
        with pytest.raises(ConfigError, match="no credentials"):
            await assembly.run(CHUNK)


@pytest.mark.parametrize(
    ("rate", "processes", "lanes"),
    [("4/s", 1, 9), ("4/s", 4, MIN_LANES), ("100/s", 4, 51), ("1000/s", 2, MAX_LANES), ("600/m", 1, 21)],
)
def test_lanes_keep_the_rate_busy_within_bounds(rate: str, processes: int, lanes: int) -> None:
    assert lanes_for(Rate.parse(rate), processes) == lanes
