"""What decides how Filestack answers, as a run froze it: the row's `engine_version` and `engine_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tagmill.worker.models import canonical_hash

DEFAULT_VERSION = 2  #: of the vocabulary, where none is asked for
FILESTACK_WORKFLOW = "filestack-workflow"  #: the engine whose answers come from workflow jobs
WORKFLOW_ID, TASK_NAME = "workflow_id", "task_name"  #: its options
NO_OPTIONS: Mapping[str, Any] = {}


def engine_version(tags_version: int | None) -> str:
    return str(tags_version or DEFAULT_VERSION)


def engine_config(
    engine: str, tags_version: int | None, resize: int | None, options: Mapping[str, Any] = NO_OPTIONS
) -> str:
    """Return a hash of what makes the service answer otherwise; neither credentials nor addresses do.

    `options`: what else an engine is asked for, such as the id of a Workflow.
    """
    version = tags_version or DEFAULT_VERSION
    return canonical_hash({"engine": engine, "version": version, "resize": resize, **options})
