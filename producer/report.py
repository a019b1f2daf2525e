"""A run's summary for people, for programs, and for the shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

import orjson

from tagmill.producer.exit_codes import PAUSE_REASONS, ExitCode
from tagmill.worker.models import SCHEMA, Json, Status
from tagmill.worker.store.runs import CAPS, PLANNED, RunSpec


def print_summary(
    summary: Json, *, as_json: bool, message: str | None = None, passed_over: Mapping[str, int] | None = None
) -> None:
    """Print to stdout; `message` says more about a pause, `passed_over` counts what was not planned."""
    if as_json:
        print_json(summary)
    else:
        print_text(describe_summary(summary, message, passed_over))


def print_json(value: Json) -> None:
    """Print one line on stdout."""
    print_text(orjson.dumps(value).decode())


def print_found(value: Json, describe: Callable[[], str], *, as_json: bool) -> None:
    """Print what was found as one line of JSON, or in words."""
    if as_json:
        print_json(value)
    else:
        print_text(describe())


def print_text(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_caps(spec: RunSpec, *, as_json: bool) -> None:
    """Print what holds now of what can be changed of a run."""
    caps = {"schema": SCHEMA, "run_id": spec.run_id} | {name: getattr(spec, name) for name in CAPS}
    told = ", ".join(f"{name.replace('_', ' ')} {caps[name]}" for name in CAPS if caps[name] is not None)
    if as_json:
        print_json(caps)
    else:
        print_text(f"run {spec.run_id}: {told}")


def describe_summary(
    summary: Json, message: str | None = None, passed_over: Mapping[str, int] | None = None
) -> str:
    state = summary["state"] + (f" ({summary['reason']})" if summary["reason"] else "")
    lines = [
        f"run {summary['run_id']}: {state}, {summary['planned']} images in {summary['duration_s']:.1f} s",
        f"  {_nonzero({status: summary[status] for status in (*Status, 'remaining')})}",
        f"  {summary['calls']} calls" + _calls(summary),
    ]
    if passed_over:
        lines.append(f"  passed over: {_nonzero(passed_over)}")
    if summary.get("incremental") is not None:  # older runs say nothing of it
        lines.append(f"  {_since(summary)}")
    if summary["duplicate"]:
        lines.append(f"  {_saved(summary['saved'])}")
    if any(summary["writes"].values()):
        lines.append(f"  write-backs: {_nonzero(summary['writes'])}")
    if summary["skipped"]:
        lines.append("  skipped: no image, or tagged already (--force pays again); the manifest says which")
    if summary["state"] in {"completed", "cancelled"} and not summary["remaining"]:
        lines += _results(summary)
    elif summary["state"] == "paused":
        if message:
            lines.append(f"  {message}")
        lines.append(f"  go on with: tagmill {_way_on(summary)}")
    return "\n".join(filter(str.strip, lines))


def _results(summary: Json) -> Iterator[str]:
    """Where they are, and what went wrong with them."""
    yield f"  manifest: {summary['manifest']}"
    if summary["failed"] or summary["quarantined"]:
        yield f"  failures: {summary['run_dir']}/failures.jsonl"
    if summary["writes"]["failed"]:
        yield f"  write-backs that failed: tagmill retry {summary['run_id']} --writes-only"


def _way_on(summary: Json) -> str:
    """Under the same cap a run would pause again at once."""
    run_id = summary["run_id"]
    if summary["reason"] == PLANNED:
        return f"run --plan {run_id}"
    return f"resume {run_id}" + (" --max-calls N" if summary["reason"] == "budget" else "")


def summary_exit_code(summary: Json, *, detached: bool = False, writes_only: bool = False) -> ExitCode:
    """`writes_only`: of a pass that asked nobody; images that had failed before are not its failure."""
    match summary["state"]:
        case "completed":
            failed = summary["writes"]["failed"]
            failed += 0 if writes_only else summary["failed"] + summary["quarantined"]
            return ExitCode.FAILED_IMAGES if failed else ExitCode.DONE
        case "paused":
            return PAUSE_REASONS.get(summary["reason"], ExitCode.PAUSED_ELSEWHERE)
        case "cancelled":
            return ExitCode.PAUSED_ELSEWHERE
        case _:
            return ExitCode.DONE if detached else ExitCode.INTERRUPTED


def _calls(summary: Json) -> str:
    told = ["maybe_charged", "throttled"] + ["unaccounted"] * (summary["state"] != "running")
    extra = _nonzero({name.replace("_", " "): summary[name] for name in told})
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.2f}"
    return (f" ({extra})" if extra else "") + cost


def _since(summary: Json) -> str:
    """What became of the source since the run before."""
    news = "" if summary["planned"] else "nothing new, "
    told = summary["incremental"]
    return f"since the last run: {news}{_nonzero(told['images'])} (mode {told['mode']})"


def _saved(saved: Json) -> str:
    cost = "" if saved["cost"] is None else f", {saved['cost']:.2f}"
    return f"saved: {saved['calls']} calls{cost}, for images of equal content"


def _nonzero(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
