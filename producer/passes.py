"""A new pass over a finished run: retry, retag, write again, undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from tagmill.config.settings import Settings
from tagmill.producer.launch import Launch, check_reopenable, lift_pause, refuse_cancelled
from tagmill.producer.revision import Revision
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json, WriteStatus
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.runs import Runs, Verb
from tagmill.worker.summary import finished

NAMED = 20  #: images that a command lists by name
S3_CANNOT_RESTORE = (
    "S3 cannot restore LastModified, nor remove versions: each object gets one more in a versioned bucket, "
    "and `ObjectCreated:Copy` fires once more"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command wants done to a run."""

    kind: PassKind
    select: Json = field(default_factory=dict)
    policy: Json | None = None  #: None: the one that its rows have

    def after(self, newest: PassSpec) -> PassSpec:
        """Return the pass that fulfils it."""
        return PassSpec(
            newest.number + 1,
            self.kind,
            newest.policy if self.policy is None else self.policy,
            inputs=[f"{number:04d}" for number in range(newest.number + 1)],
            select=self.select,
            created_at=datetime.now(UTC).isoformat(),
        )

    def is_what(self, current: PassSpec) -> bool:
        """Whether that pass, under way, is this very wish."""
        same_policy = self.policy is None or self.policy == current.policy
        return same_policy and (self.kind, self.select) == (current.kind, current.select)


def propose(runs: Runs, run_id: str, wish: Wish) -> PassSpec:
    """Return the pass that would fulfil the wish, or that is doing so already.

    Raise `NotFoundError` where there is no such run, `ConfigError` while something else is being done to it,
    or where it has nothing of what is wished for.
    """
    spec = runs.read(run_id)
    if wish.select.get("tasks") and spec.tasks is None:
        raise ConfigError(f"run {run_id} has no pipeline, of whose tasks some could have failed")
    newest, control = Passes(runs.files, run_id).newest(), runs.control(run_id)
    if finished(runs.files, run_id, newest.number):
        proposed = wish.after(newest)
        refuse_cancelled(control, run_id, proposed)
        return proposed
    if control.of(newest.number) is Verb.CANCEL:
        raise ConfigError(f"run {run_id} is being cancelled: wait for that with `tagmill cancel {run_id}`")
    if wish.is_what(newest):
        return newest
    doing = f"pass {newest.number} ({newest.kind})" if newest.number else "its first pass"
    raise ConfigError(f"run {run_id} has not finished {doing}: go on with `tagmill run --resume {run_id}`")


@dataclass(frozen=True, slots=True)
class Selected:
    """What a pass would work on."""

    images: int
    sinks: Mapping[str, int]  #: images that have a write there

    @classmethod
    def of(cls, runs: Runs, run_id: str, proposed: PassSpec) -> Selected:
        images, sinks = 0, Counter[str]()
        for item in Revision(runs.files, run_id, proposed).list({}):
            if item.row is not None:
                images += 1
                sinks.update(item.row["writes"].keys())
        return cls(images, sinks)

    def describe(self) -> str:
        """For undo: where, and what cannot be restored."""
        places = ", ".join(f"{count} {sink}" for sink, count in sorted(self.sinks.items()))
        return f"to be taken back: {places}" + (f"\n{S3_CANNOT_RESTORE}" if "metadata" in self.sinks else "")


def left_alone(launch: Launch) -> str:
    """Name, a line each, what an undo pass did not touch because somebody changed it since."""
    runs, number = launch.runs, launch.current.number
    manifest = Manifest(runs.files, launch.spec.run_id, number)
    if not manifest.finished():
        return ""
    rows = (orjson.loads(line) for shard in manifest.compacted() for line in manifest.lines(shard))
    changed = [row["id"] for row in rows if _is_stale(row)]
    lines = [f"  left alone, changed since: {image}\n" for image in changed[:NAMED]]
    if len(changed) > NAMED:
        lines.append(
            f"  and {len(changed) - NAMED} more: rows of the manifest with a write that is `stale`\n"
        )
    return "".join(lines)


def _is_stale(row: Json) -> bool:
    return any(write["status"] == WriteStatus.STALE for write in row["writes"].values())


def begin(settings: Settings, runs: Runs, run_id: str, proposed: PassSpec) -> Launch:
    """Raise `ConfigError` where the run cannot be gone on with here, before the pass is made."""
    spec = runs.read(run_id)
    check_reopenable(settings, spec, proposed.kind)
    lift_pause(runs, run_id, proposed, anew=True)
    passes = Passes(runs.files, run_id)
    passes.create(proposed)
    return Launch(settings, runs, spec, passes.read(proposed.number))
