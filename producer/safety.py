"""What has to be clear before a run may write into buckets: its effects, and what the server really does."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tagmill.producer.consent import QUESTIONS, Ask, Effect, consented, describe, effects, refuse, tag_notes
from tagmill.producer.preflight import Preflight, preflight
from tagmill.producer.probe import probe
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json
from tagmill.worker.store.probes import Probes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

METADATA, TAGS, ANNOTATION = "metadata", "tags", "annotation"
EFFECTS = tuple(QUESTIONS)  #: each has a setting `allow_…`
_LOGIN = re.compile(r"//[^/@]*@")
ON_THE_OBJECT = frozenset({METADATA, TAGS, ANNOTATION})  #: sinks that write to the image's own object


@dataclass(frozen=True, slots=True)
class Dialogue:
    """With whoever starts the run; `ask` None: nobody can answer."""

    say: Callable[[str], None]
    ask: Ask | None = None


SILENT = Dialogue(lambda _: None)


@dataclass(frozen=True, slots=True)
class Clearance:
    """Of buckets that a run will write to."""

    sinks: Sequence[str]
    places: Sequence[tuple[str, str]]  #: bucket and prefix
    allowed: Collection[str] = ()  #: effects that need no question
    at_most: int | None = None  #: images
    listed: bool = True  #: the images are there; otherwise they are yet to come

    @property
    def needed(self) -> bool:
        return bool(self.places and ON_THE_OBJECT & set(self.sinks))

    def foresee(self, client: S3Client) -> tuple[list[str], list[Effect]]:
        """Return what will happen, a line each, and what of it has to be agreed to. Only reads."""
        if not {METADATA, TAGS} & set(self.sinks):
            return [], []
        found = [preflight(client, *place) for place in self.places]
        wanted = [effect for one in found for effect in effects(one)] if METADATA in self.sinks else []
        return list(self._lines(found)), wanted

    def consent(self, client: S3Client, dialogue: Dialogue) -> Json:
        """Say what will happen; return how each effect was allowed. Raise `ConfigError` for what is not."""
        lines, wanted = self.foresee(client)
        missing = [effect for effect in wanted if effect[0] not in self.allowed]
        if missing and dialogue.ask is None:
            raise refuse(missing[0])
        for line in lines:
            dialogue.say(line)
        return consented(wanted, self.allowed, dialogue.ask or (lambda _: False))

    def _lines(self, found: Sequence[Preflight]) -> Iterator[str]:
        for one in found:
            if METADATA in self.sinks:
                yield from describe(one, self.at_most, listed=self.listed)
            yield from tag_notes(one)

    def probe(self, client: S3Client, endpoint: str, *, trying: bool) -> Probes:
        """Try what the sinks rely on. Raise `ConfigError` where one of them would do harm or nothing."""
        buckets = [
            probe(client, bucket, prefix, self.sinks) if trying else Capabilities(bucket)
            for bucket, prefix in self.places
        ]
        for bucket in buckets:
            self._refuse_unfit(bucket)
        shown = _LOGIN.sub("//", endpoint)
        return Probes(shown, datetime.now(UTC).isoformat(), tuple(buckets))

    def _refuse_unfit(self, found: Capabilities) -> None:
        if ANNOTATION in self.sinks and not found.annotations:
            raise ConfigError(
                f"no probe has shown that s3://{found.bucket} knows annotations, and where they are unknown "
                "one overwrites the image: use --write-back metadata, tags or sidecar"
            )
        if TAGS in self.sinks and found.merges_tags is False:
            raise ConfigError(
                f"s3://{found.bucket} does not keep object tags: use --write-back metadata or sidecar"
            )
