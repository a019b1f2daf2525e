"""A night over a large bucket of which little changed: what is asked for, how fast, in how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import bucket
from benchmarks.stage import RUN_ID, program, running, spent_by, stage, without_settings
from benchmarks.tables import Row, Table
from tagmill.producer.modes import state_name
from tagmill.producer.sources.spec import parse_source
from tagmill.worker.engine_config import engine_config
from tagmill.worker.known import Known
from tagmill.worker.policy import TagPolicy
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.layout import state_folder
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.states import States

FEW, MANY = 100_000, 1_000_000
MOST_GROWTH = 1.2  #: of memory, from few keys to many
UNLIMITED = "100000/s"
SOURCE = f"s3://{bucket.NAME}/"
STATE = state_name(parse_source(SOURCE), "filestack")


def tables() -> Iterator[Table]:
    few, many = night(FEW), night(MANY)
    exact = all(row["changed"] == row["planned"] == row["calls"] for row in (few, many))
    growth = max(many[name] / few[name] for name in ("producer MB", "state MB"))
    flat = "flat, as promised" if growth <= MOST_GROWTH else "NOT flat"
    yield Table(
        "A run over a bucket that an earlier run has tagged, 0.5 % of it edited since",
        [few, many],
        [
            f"called for: {'exactly what changed, as promised' if exact else 'NOT what changed'}",
            f"{MANY // FEW} times the keys, at most {growth:.2f} times the memory: {flat}",
        ],
    )


def night(keys: int) -> Row:
    with bucket.running_bucket(keys) as address, stage() as here:
        store = here.folder / "runs"
        settings = {"s3_endpoint_url": address, "write_back": "none", "rate": UNLIMITED}
        environment = here.environment(**settings) | bucket.ENVIRONMENT
        write_state(Folder(store), keys)
        command = [*program("tagmill.producer.cli.main"), "run", SOURCE, "--run-id", RUN_ID, "--detach"]
        planned = spent_by(command, environment)
        with running(program("tagmill.worker.serve"), environment):
            here.await_manifest()
        return {
            "keys": keys,
            "changed": -(-keys // bucket.EVERY),
            "planned": correctly_planned(Folder(store)),
            "calls": here.sandbox.stats()["calls"],
            "seconds": planned.seconds,
            "keys/s": keys / planned.seconds,
            "producer MB": planned.peak_mb,
            **state_again(store),
        }


def write_state(files: Folder, keys: int) -> None:
    """As the run that tagged all of them would have left it."""
    states = States(files, STATE)
    config, policy = engine_config("filestack", None, None), TagPolicy().hash
    known = (
        Known(
            f"{SOURCE}{bucket.key(number)}",
            "tagged",
            "first",
            "2026-01-01T00:00:00.000Z",
            config,
            policy,
            divmod(number, 10_000),
            2_000_000,
            "2026-01-01T00:00:00Z",
            (bucket.etag(number, edited=False),),
        )
        for number in range(keys)
    )
    states.state(states.claim("first", 0).number).write(known, {})


def correctly_planned(files: Folder) -> int:
    """Count the planned images that were edited; none other may be planned."""
    plan = Plan(files, RUN_ID, 0)
    chunks = [chunk for shard in plan.shards() for chunk in plan.header(shard).chunks(RUN_ID, 0)]
    planned = [image.ref.id for chunk in chunks for image in plan.images(chunk)]
    edited = {image for image in planned if int(Path(image).stem) % bucket.EVERY == 0}
    return len(edited) if len(edited) == len(planned) else -len(planned)


def state_again(store: Path) -> Row:
    """What the end of the run takes that writes the next state."""
    Folder(store).remove_below(state_folder(STATE, 2))
    spent = spent_by([*program("benchmarks.remembering"), str(store), RUN_ID], without_settings())
    return {"state s": spent.seconds, "state MB": spent.peak_mb}
