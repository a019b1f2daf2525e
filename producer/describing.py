"""The details of a run for people."""

from __future__ import annotations

from collections.abc import Iterator

from tagmill.producer.display import duration, no_worker
from tagmill.worker.models import Json

NAMED_CHUNKS = 4  #: of a worker


def describe_details(details: Json) -> list[str]:
    """Return lines, indented, to follow the summary's; none for a run of which all is said there."""
    lines = [*_errors(details["errors"])]
    if details["run"]["state"] == "running":
        lines += [_pace(details), *_held_back(details), *_workers(details)]
        lines += _foreign(details["foreign_messages"])
    return [f"  {line}" for line in lines]


def pace_text(details: Json) -> str:
    """How fast it goes, what holds it, when it is done."""
    pace = details["pace"]
    now, average, limit = pace["images_per_second"], pace["average_per_second"], pace["limit_per_second"]
    parts = [f"{now:.1f}/s now"] if now is not None else []
    parts += [f"{average:.1f}/s on average"] if average is not None else []
    if pace["limiter_share"] is not None and limit is not None:
        parts.append(f"limiter ({limit:g}/s) {pace['limiter_share']:.0%} of the time")
    return ", ".join(parts)


def eta_text(details: Json) -> str:
    """`+`: more is being planned."""
    return f"{duration(details['pace']['eta_s'])}{'+' if details['planning'] else ''}"


def _pace(details: Json) -> str:
    pace = pace_text(details)
    return f"{pace}; ETA {eta_text(details)}" if pace else f"ETA {eta_text(details)}"


def _errors(errors: dict[str, int]) -> Iterator[str]:
    if errors:
        yield "errors: " + ", ".join(f"{count} {code}" for code, count in errors.items())


def _held_back(details: Json) -> Iterator[str]:
    breaker, limiter = details["breaker"], details["limiter"]
    if breaker and breaker["open_since"]:
        yield f"calls are off since {breaker['open_since']}, but for probes: {breaker['reason']}"
    if limiter and limiter["blocked_s"]:
        yield f"the service throttles: no call for {limiter['blocked_s']:.0f} s, then more slowly for a while"
    elif limiter and limiter["share_of_rate"] < 1:
        yield f"slowed down to {limiter['share_of_rate']:.0%} of the rate after throttling, recovering"


def _workers(details: Json) -> Iterator[str]:
    workers: list[Json] | None = details["workers"]
    if workers is None:
        return
    for worker in workers:
        kind = f"{worker['processes']} processes" if worker["alive"] else "dead"
        yield f"worker {worker['name']} ({kind}): {_chunks(worker['chunks'])}"
    if not any(worker["alive"] for worker in workers):
        yield no_worker(details["lane"])


def _foreign(messages: dict[str, int] | None) -> Iterator[str]:
    for version, count in (messages or {}).items():
        yield f"{count} messages of version {version} were left to others: the fleet is of several versions"


def _chunks(chunks: list[Json]) -> str:
    named = ", ".join(chunk["chunk"] for chunk in chunks[:NAMED_CHUNKS])
    more = len(chunks) - NAMED_CHUNKS
    return f"{named} and {more} more" if more > 0 else named or "no chunk of this run"
