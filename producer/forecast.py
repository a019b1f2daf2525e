"""What a planned run takes, retries aside: calls, requests to S3, money; and how long at least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from tagmill.producer.duplicates import find_duplicates
from tagmill.producer.judging import WITH_ANSWER
from tagmill.producer.sources.s3_listing import PAGE_SIZE
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.producer.tally import Tally
from tagmill.worker.limits import max_calls
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.money import cost_of
from tagmill.worker.rows import ref_of
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.plan import Plan, PlanSummary
from tagmill.worker.store.runs import Runs, RunSpec

CANARIES = 100  #: images that are read in full around a write: so many first ones, and one in so many others
DAY_SECONDS, MONTH_SECONDS = 86_400, 28 * 86_400
CANARY_GETS = 6  #: content, tags and ACL, before and after


@dataclass(frozen=True, slots=True)
class Requests:
    """To S3."""

    head: int = 0
    get: int = 0
    put: int = 0
    copy: int = 0
    list: int = 0

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.head + other.head,
            self.get + other.get,
            self.put + other.put,
            self.copy + other.copy,
            self.list + other.list,
        )

    def times(self, count: int) -> Requests:
        return Requests(*(count * each for each in (self.head, self.get, self.put, self.copy, self.list)))

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__}


#: What each sink asks of S3 for an image, as its docstring says, where nobody interferes.
WRITES: Mapping[str, Requests] = {
    "metadata": Requests(head=1, copy=1),
    "tags": Requests(head=2, get=2, put=1),
    "annotation": Requests(head=1, get=1, put=1),
    "sidecar": Requests(head=1, get=1, put=1),
}
TO_THE_LATEST = frozenset({"metadata", "sidecar"})  #: sinks that leave earlier versions alone
#: To see whether an earlier run has written there.
LOOKS: Mapping[str, Requests] = {
    "metadata": Requests(head=1),
    "tags": Requests(head=1, get=1),
    "annotation": Requests(head=1, get=1),
    "sidecar": Requests(head=1, get=1),
}


def tally_of(plan: Plan, source: SourceSpec) -> Tally:
    """Read a whole plan; memory is a shard."""
    in_bucket = source.kind is Kind.S3 and source.input is None
    tally = Tally(source.prefix.rpartition("/")[0] + "/" if in_bucket and "/" in source.prefix else "")
    for shard in plan.shards():
        for line in plan.lines(shard):
            tally.add(_bare(orjson.loads(line)))
    return tally


def _bare(line: Json) -> Json:
    """A plan line without the answer that an image may have already."""
    return ref_of(line).to_json() if "schema" in line else line


@dataclass(frozen=True, slots=True)
class Quota:
    """Calls that may be made at most, by the account's settings and by rates per day; None: no such bound."""

    per_day: int | None = None
    per_month: int | None = None

    def seconds(self, calls: int, pace: float) -> int:
        """Return the least time for so many calls, begun when a day and a month begin."""
        waits = [_whole(calls, self.per_day) * DAY_SECONDS, _whole(calls, self.per_month) * MONTH_SECONDS]
        return max(math.ceil(calls / pace), *waits)


def _whole(calls: int, quota: int | None) -> int:
    """Return how many periods are used up before the last one."""
    return 0 if quota is None else max(math.ceil(calls / quota) - 1, 0)


NO_QUOTA = Quota()


def forecast(
    runs: Runs, spec: RunSpec, whole: PlanSummary, s3_prices: Json | None, quota: Quota = NO_QUOTA
) -> Json:
    """Return the one object that `tagmill plan --json` prints."""
    plan, source = Plan(runs.files, spec.run_id, 0), SourceSpec.from_json(spec.source)
    tally = tally_of(plan, source)
    duplicates = _duplicates(plan, spec, source, whole)
    copies = duplicates["images"] if spec.deduplicates and duplicates else 0
    asked = tally.images - tally.bad_lines - copies - sum(whole.found.get(why, 0) for why in WITH_ANSWER)
    least, most = spec.calls_per_image
    calls = asked * most
    requests = _requests(spec, source, tally, asked, whole.listed)
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "source": source.uri,
        "engine": spec.engine,
        "write_back": list(spec.write_back),
        "dedupe": spec.dedupe,
        "mode": spec.mode,
        "found": whole.found,
        "listed": whole.listed,
        "images": tally.images,
        "bytes": tally.bytes,
        "earlier_versions": tally.earlier,
        "skipped": whole.skipped,
        "types": tally.types.to_json("type"),
        "folders": tally.folders.to_json("folder"),
        "sizes": list(tally.size_classes()),
        "duplicates": duplicates,
        "tasks": spec.tasks.to_json() if spec.tasks else [],
        "least_calls": asked * least,
        "calls": calls,
        "s3_requests": requests.to_json(),
        "cost": _cost(spec, calls, requests, s3_prices),
        "max_calls": max_calls(spec),
        "rate": spec.planned_rate,
        "quota": asdict(quota),
        "duration_s": quota.seconds(asked * least, spec.planned_rate),
        "run_dir": f"{runs.files.location}/{run_folder(spec.run_id)}",
    }


def _duplicates(plan: Plan, spec: RunSpec, source: SourceSpec, whole: PlanSummary) -> Json | None:
    """None: nobody looked, because that would be to read files."""
    if spec.deduplicates or source.kind is not Kind.S3:
        return whole.duplicates
    return find_duplicates(plan, None, stopped=lambda: False)


def _requests(spec: RunSpec, source: SourceSpec, tally: Tally, asked: int, listed: int) -> Requests:
    behind = tally.images if spec.filestack_buckets else 0  # handles, with an object each
    objects = tally.objects or behind
    sinks = [name for name in spec.write_back if objects]
    looks = sum((LOOKS[name] for name in sinks if not spec.force), Requests()).times(objects)
    if "metadata" in sinks and not spec.force:
        looks += Requests(head=1).times(tally.earlier)
    canaries = min(objects, CANARIES) + max(objects - CANARIES, 0) // CANARIES
    pages = math.ceil(listed / PAGE_SIZE) if source.kind is Kind.S3 and source.input is None else 0
    return (
        sum((WRITES[name].times(_written(name, objects, tally)) for name in sinks), looks)
        + Requests(get=CANARY_GETS * len(sinks)).times(canaries)
        + Requests(get=min(asked, tally.objects), list=2 * pages if source.sample else pages)
    )


def _written(sink: str, objects: int, tally: Tally) -> int:
    return objects - tally.earlier if sink in TO_THE_LATEST else objects


def _cost(spec: RunSpec, calls: int, requests: Requests, prices: Json | None) -> Json:
    """In one currency, that of all prices; None where a price is not set."""
    of_calls, of_s3 = cost_of(calls, spec.price_per_1000), _s3_cost(requests, prices)
    return {
        "calls": of_calls,
        "s3": of_s3,
        "total": _sum(of_calls, of_s3),
        "price_per_1000": spec.price_per_1000,
        "s3_prices": prices,
    }


def _s3_cost(requests: Requests, prices: Json | None) -> float | None:
    if prices is None:
        return None
    writing, reading = requests.put + requests.copy + requests.list, requests.head + requests.get
    return _sum(cost_of(writing, prices["put_per_1000"]), cost_of(reading, prices["get_per_1000"]))


def _sum(*costs: float | None) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if known else None
