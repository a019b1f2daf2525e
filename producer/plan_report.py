"""What a planned run would take, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator

from tagmill.producer.display import duration
from tagmill.producer.forecast import TO_THE_LATEST
from tagmill.producer.report import print_found
from tagmill.worker.models import Json

UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def print_forecast(forecast: Json, *, as_json: bool) -> None:
    """To stdout."""
    print_found(forecast, lambda: "\n".join(_lines(forecast)), as_json=as_json)


def size(count: int) -> str:
    """Bytes as people write them, in powers of 1000."""
    power, value = 0, float(count)
    while value >= 999.5 and power < len(UNITS) - 1:  # noqa: PLR2004 - would be shown as 1000
        power, value = power + 1, value / 1000
    return f"{count} bytes" if not power else f"{value:.3g} {UNITS[power]}"


def _lines(forecast: Json) -> Iterator[str]:
    yield f"run {forecast['run_id']}: {forecast['source']}, planned and not started"
    yield f"  {_amount(forecast)} of {forecast['listed']:,} things that were listed"
    if forecast["earlier_versions"]:
        yield f"  {forecast['earlier_versions']:,} of them are earlier versions{_unwritten(forecast)}"
    if forecast["found"]:
        found = (f"{count:,} {why}" for why, count in forecast["found"].items())
        yield f"  since the last run: {', '.join(found)} (mode {forecast['mode']})"
    if forecast["skipped"]:
        yield "  passed over: " + ", ".join(f"{count:,} {why}" for why, count in forecast["skipped"].items())
    yield from _largest("types", forecast["types"], "type")
    yield from _largest("folders", forecast["folders"], "folder")
    yield "  sizes: " + ", ".join(_size_class(one) for one in forecast["sizes"] if one["images"])
    yield f"  equal content: {_duplicates(forecast)}"
    yield f"  calls: {_calls(forecast)} and what is retried{_cap(forecast)}"
    if any(forecast["s3_requests"].values()):
        requests = (f"{count:,} {kind.upper()}" for kind, count in forecast["s3_requests"].items() if count)
        yield f"  requests to S3: at most {', '.join(requests)}"
    yield f"  cost: {_cost(forecast['cost'], at_most=_least(forecast) is not None)}"
    yield f"  duration: {duration(forecast['duration_s'])} or more, at {_rate(forecast)}"
    if forecast["tasks"]:
        yield f"  tasks: {', '.join(map(_task, forecast['tasks']))}"
    yield f"  write-back: {', '.join(forecast['write_back']) or 'none'}, engine: {forecast['engine']}"
    for effect in forecast["effects"]:
        yield f"  {effect}"
    yield f"  start it with: tagmill run --plan {' '.join([forecast['run_id'], *forecast['needed']])}"


def _unwritten(forecast: Json) -> str:
    sinks = [sink for sink in forecast["write_back"] if sink in TO_THE_LATEST]
    return f", without {' and '.join(sinks)}" if sinks else ""


def _amount(counted: Json) -> str:
    return f"{counted['images']:,} images, {size(counted['bytes'])}"


def _largest(title: str, counted: Json, label: str) -> Iterator[str]:
    if not counted["largest"]:
        return
    shown = [f"{one[label]} {one['images']:,} ({size(one['bytes'])})" for one in counted["largest"]]
    others = counted["others"]
    if others["names"]:
        shown.append(f"{others['names']:,} others {others['images']:,} ({size(others['bytes'])})")
    yield f"  {title}: {', '.join(shown)}"


def _size_class(counted: Json) -> str:
    if counted["from"] is None:
        return f"unknown {counted['images']:,}"
    begin = f"from {size(counted['from'])}" if counted["from"] else f"below {size(counted['below'])}"
    return f"{begin} {counted['images']:,}"


def _duplicates(forecast: Json) -> str:
    found = forecast["duplicates"]
    if found is None:
        return "not looked for: --dedupe exact reads the files whose sizes are equal"
    what = f"{_amount(found)} that others have, too"
    if not found["images"] or forecast["dedupe"] != "off":
        return what
    return f"{what}; --dedupe exact would not ask for them"


def _calls(forecast: Json) -> str:
    least = _least(forecast)
    return f"{'' if least is None else f'{least:,} to '}{forecast['calls']:,}"


def _least(forecast: Json) -> int | None:
    """None: it depends on no answer which tasks are asked for."""
    least: int = forecast["least_calls"]
    return least if least < forecast["calls"] else None


def _task(task: Json) -> str:
    said = f"when {task['when']}" if "when" in task else f"after {task.get('after')}"
    return f"{task['name']} ({said})" if "after" in task else str(task["name"])


def _cap(forecast: Json) -> str:
    cap = forecast["max_calls"]
    return f"; the run pauses after {cap:,}" if cap is not None and cap < forecast["calls"] else ""


def _rate(forecast: Json) -> str:
    bounds = {"day": forecast["quota"]["per_day"], "month": forecast["quota"]["per_month"]}
    quotas = (f" and {calls:,} a {period}" for period, calls in bounds.items() if calls is not None)
    return f"{forecast['rate']:g} calls/s{''.join(quotas)}"


def _cost(cost: Json, *, at_most: bool) -> str:
    parts = []
    if cost["calls"] is not None:
        amount = f"{'at most ' * at_most}{cost['calls']:.2f}"
        parts.append(f"{amount} for first calls, at {cost['price_per_1000']} per 1,000")
    if cost["s3"] is not None:
        parts.append(f"{cost['s3']:.2f} for S3, at prices of {cost['s3_prices']['as_of']}")
    if not parts:
        return "unknown; set TAGMILL_PRICE_PER_1000, and for S3 TAGMILL_S3_PRICES"
    return " + ".join(parts)
