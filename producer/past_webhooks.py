"""Which days of received webhook events nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tagmill.worker.store import cursors, digests, quarantine, webhook_events
from tagmill.worker.store.base import Files

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def past_webhooks(files: Files, before: datetime, now: datetime, open_since: datetime) -> Iterator[str]:
    """Yield folders of days that were over then; none of the last week, in which an event is known again.

    Kept is also what a reader has not come to, and what came in since `open_since`, when the oldest open run
    was made: it may look for results there.
    """
    before = min(before, now - digests.KEPT)
    listeners = [cursors.Cursors(files, name) for name in cursors.listeners(files)]
    unread = min(map(_reads_from, [_digested(files, now), *(one.newest for one in listeners)]))
    yield from _days(files, webhook_events.ROOT, min(before, unread, open_since - webhook_events.SKEW))
    yield from _days(files, quarantine.ROOT, before)
    yield from _days(files, digests.ROOT, before, but_last=True)
    for one in listeners:
        yield from _days(files, one.folder, before, but_last=True)


def _digested(files: Files, now: datetime) -> webhook_events.Cursor:
    newest = digests.Digests(files, now).newest(1)
    return newest[-1].cursor if newest else {}


def _reads_from(cursor: webhook_events.Cursor) -> datetime:
    return webhook_events.begins(cursor) or _BEGINNING


def _days(files: Files, root: str, before: datetime, *, but_last: bool = False) -> Iterator[str]:
    """`but_last`: of files that say how far something is, the newest count however old they are."""
    days = list(files.folders(root))
    limit = f"{before.astimezone(UTC):%Y%m%d}" if before > _BEGINNING else ""
    return (f"{root}/{day}" for day in (days[:-1] if but_last else days) if day < limit)
