"""What was found out about the buckets of a run, kept in it as `probe.json`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder

_AMAZON = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")


@dataclass(frozen=True, slots=True)
class Probes:
    """All buckets that a run writes to; one that is not listed was not tried."""

    endpoint: str = ""
    at: str = ""
    buckets: tuple[Capabilities, ...] = ()

    def through(self, endpoint: str) -> Probes:
        """Return what holds for who reaches that endpoint: another server was not tried."""
        return self if _server(endpoint) == _server(self.endpoint) else Probes()

    def of(self, bucket: str) -> Capabilities:
        return next((one for one in self.buckets if one.bucket == bucket), Capabilities(bucket))

    def prove_annotations(self, bucket: str) -> bool:
        return self.of(bucket).annotations is True

    def warnings(self, write_back: Sequence[str]) -> list[str]:
        """What is done otherwise than on Amazon S3; for people."""
        return list(self._warnings()) if "metadata" in write_back else []

    def _warnings(self) -> Iterator[str]:
        for found in self.buckets:
            if not found.copy_conditions:
                heeds = "was not tried for" if found.copy_conditions is None else "ignores"
                yield (
                    f"s3://{found.bucket} {heeds} conditions on CopyObject: "
                    "each metadata write is verified by a second look"
                )
            if found.copies_tags is False:
                yield f"s3://{found.bucket} drops tags in a copy: objects with tags get no metadata"

    def to_json(self) -> Json:
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def keep_probes(files: Files, run_id: str, probes: Probes) -> None:
    """Keep what was found of buckets, if anything was."""
    if probes.buckets:
        files.create(_name(run_id), orjson.dumps(probes.to_json(), option=orjson.OPT_INDENT_2))


def read_probes(files: Files, run_id: str) -> Probes:
    """Return what was found when the run was created: nothing, if it was not asked."""
    try:
        value = orjson.loads(files.read(_name(run_id)))
    except FileNotFoundError:
        return Probes()
    buckets = tuple(Capabilities(**found) for found in value["buckets"])
    return Probes(value["endpoint"], value["at"], buckets)


def _server(endpoint: str) -> str:
    """Amazon S3 is one, whatever the region."""
    place = urlsplit(endpoint).netloc.rpartition("@")[2]
    return "Amazon S3" if _AMAZON.search(place) else place


def _name(run_id: str) -> str:
    return f"{run_folder(run_id)}/probe.json"
