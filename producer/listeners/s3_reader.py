"""Which of S3's events make an image due, and which are passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from tagmill.producer.listeners.base import Delivery
from tagmill.producer.listeners.s3_events import Created, read_message
from tagmill.producer.sources.filtering import Sieve, Skip
from tagmill.producer.sources.s3_listing import check_key
from tagmill.producer.sources.spec import SourceSpec
from tagmill.worker.events import Event
from tagmill.worker.models import ImageRef, S3Object
from tagmill.worker.store.plan import Planned

IsOwn = Callable[[S3Object], bool]


class S3Reader:
    def __init__(self, source: SourceSpec, *, is_own: IsOwn, own_principal: str | None = None) -> None:
        """`is_own`: whether an object that was copied tells of our write-back and nothing else."""
        self._source, self._sieve = source, Sieve(source.filters)
        self._is_own, self._own_principal = is_own, own_principal

    def read(self, body: str) -> Delivery:
        """Raise ValueError for what cannot be understood."""
        events: list[Event] = []
        passed_over: Counter[str] = Counter()
        for created in read_message(body):
            skip = self._check(created)
            if skip is None:
                events.append(_event(created))
            else:
                passed_over[skip.value] += 1
        return Delivery(tuple(events), passed_over)

    def _check(self, created: Created) -> Skip | None:
        source = created.source
        if source.bucket != self._source.bucket or not source.key.startswith(self._source.prefix):
            return Skip.ELSEWHERE
        modified = datetime.fromisoformat(created.at).timestamp()
        skip = check_key(self._sieve, self._source.prefix, source.key)
        if skip is None and source.size is not None:
            skip = self._sieve.check_facts(source.size, modified)
        return skip or (Skip.OWN if self._is_of_ours(created) else None)

    def _is_of_ours(self, created: Created) -> bool:
        if not created.copied:
            return False
        by_us = self._own_principal is not None and created.principal == self._own_principal
        return by_us or self._is_own(created.source)


def _event(created: Created) -> Event:
    """What was told of is new content, whatever the service has cached under that key."""
    source = created.source
    # Sequencers are compared with the shorter one filled up with zeros on its right.
    order = created.sequencer.upper().rstrip("0") or created.at
    return Event(
        source.id, Planned(ImageRef(source, fresh=True)), order, source.version_id or source.etag or ""
    )
