"""What a sidecar says: tags, by which run, with which settings, of which content, instead of which run's."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tagmill.worker.models import SCHEMA, ImageRef, Json, LocalFile, S3Object
from tagmill.worker.sinks.base import Tagging, Written, marker

GENERATOR = "tagmill"


class ForeignFileError(Exception):
    """Someone else's file has the sidecar's name."""


class PreviousLostError(Exception):
    """Nothing tells any more what the sidecar said before the run."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One of ours, as it stands."""

    text: str
    content: Json

    @classmethod
    def parse(cls, data: bytes) -> Sidecar:
        """Raise ForeignFileError for what we never wrote."""
        try:
            text = data.decode()
            content = json.loads(text)
        except ValueError as error:
            raise ForeignFileError from error
        if not isinstance(content, dict) or content.get("generator") != GENERATOR:
            raise ForeignFileError
        return cls(text, content)

    @property
    def run(self) -> str | None:
        return self.content.get("run")

    @property
    def replaces(self) -> str | None:
        return self.content.get("replaces")

    @property
    def marker(self) -> str:
        return marker(str(self.content.get("engine_config")), str(self.content.get("policy")))

    def tells_of(self, source: Json) -> bool:
        return bool(self.content.get("source") == source)

    def says(self, tagging: Tagging, source: Json) -> bool:
        """Whether it says all this. Which run said it, and after which, does not matter."""
        by_nobody: Json = {"run": None, "replaces": None}
        new = sidecar_json(tagging, source, replaces=None) | by_nobody
        return bool(self.content | by_nobody == json.loads(text_of(new)))


def source_json(ref: ImageRef) -> Json:
    """Return what tells one content of an image from another."""
    match ref.source:
        case LocalFile(size=size, mtime_ns=mtime_ns):
            return {"size": size, "mtime_ns": mtime_ns}
        case S3Object(etag=etag, size=size):
            return {"size": size, "etag": etag}
    return {}


def sidecar_json(tagging: Tagging, source: Json, *, replaces: str | None) -> Json:
    """Nothing in it differs between two writes of the same answer by the same run."""
    return {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "run": tagging.run_id,
        "replaces": replaces,
        "engine": tagging.engine,
        "engine_config": tagging.engine_config,
        "policy": tagging.policy,
        "source": source,
        "tags": dict(tagging.tags),
        **({"labels": list(tagging.labels)} if tagging.labels else {}),
    }


def text_of(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def new_text(tagging: Tagging, source: Json, standing: Sidecar | None) -> str:
    """Return what is to stand there; it names the run whose sidecar stood there before this one's first."""
    replaces = None
    if standing is not None:
        replaces = standing.replaces if standing.run == tagging.run_id else standing.run
    return text_of(sidecar_json(tagging, source, replaces=replaces))


# --- undo -------------------------------------------------------------------------------------------------


def previous(sink: str, standing: Sidecar | None) -> Json:
    """Return what undo needs of what another run wrote, or of nothing."""
    run, text = (standing.run, standing.text) if standing else (None, None)
    return {"sink": sink, "run": run, "content": text}


def is_put_back(standing: Sidecar, written: Written) -> bool:
    return written.previous is not None and standing.text == written.previous["content"]


def is_as_written(standing: Sidecar, written: Written, source: Json) -> bool:
    """Whether it is the run's, and nobody edited it."""
    if standing.run != written.run_id:
        return False
    return written.as_written is None or standing.says(written.as_written, source)


async def text_before(standing: Sidecar, written: Written) -> str | None:
    """Return what stood there before the run, None for nothing: as kept, or else by the earlier manifest."""
    kept = written.kept(standing.replaces)
    if kept is not None:
        text: str | None = kept["content"]
        return text
    if standing.replaces is None:
        return None
    earlier = await written.earlier(standing.replaces)
    if earlier is None:
        raise PreviousLostError
    return text_of(sidecar_json(earlier.tagging, source_json(earlier.ref), replaces=None))
