"""What a workflow job tells of itself, asked or by webhook: still running, failed, or an answer.

https://stage.filestack.com/docs/api/workflows_api; only the word `Finished` is documented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from tagmill.worker.engines.exchange import MAX_BODY_BYTES
from tagmill.worker.engines.filestack_answers import storable, tags_of
from tagmill.worker.engines.filestack_refusals import excerpt
from tagmill.worker.errors import BadResponseError, WorkflowFailedError
from tagmill.worker.models import PARTIAL, Answer, Json, Pending, TagSets

SEVERAL_TAG_TASKS = "several_tag_tasks"  #: flag: the first of them gave the tags
FINISHED = frozenset({"finished"})
FAILED = frozenset({"failed", "error", "errored", "aborted", "cancelled", "timeout"})
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def job_id_of(told: Json) -> str | None:
    """None: it is missing, or could not be asked for."""
    job_id = told.get("jobid")
    return job_id if isinstance(job_id, str) and _JOB_ID.fullmatch(job_id) else None


def answer_of(told: Json, task_name: str | None) -> Answer | Pending:
    """Return the tags of the task of that name, else of the first one that has any.

    Raise `WorkflowFailedError` when the job ended without, `BadResponseError` for one of several images.
    """
    sources = told.get("sources")
    if isinstance(sources, list) and len(sources) > 1:
        raise BadResponseError("a workflow job of more than one source")
    results = told.get("results")
    word = _status(told)
    if word in FAILED:
        raise WorkflowFailedError(f"the workflow job ended as {word!r}{_complaints(results)}")
    if word not in FINISHED and not (word == "" and results):
        return Pending(job_id_of(told))
    return _answer(results if isinstance(results, dict) else {}, task_name)


def _status(told: Json) -> str:
    """Compared in lower case; empty: none is told."""
    status = told.get("status")
    return status.strip().casefold() if isinstance(status, str) else ""


def _answer(results: Mapping[str, Any], task_name: str | None) -> Answer:
    kept = {name: result for name, result in results.items() if _is_usable(name, result)}
    tagged = {name: found for name, result in kept.items() if (found := _tags(result)) is not None}
    wanted = [name for name in tagged if task_name in (None, name)]
    if not wanted:
        task = "no task" if task_name is None else f"no task {task_name!r}"
        raise WorkflowFailedError(f"{task} of the workflow has tags{_complaints(results)}")
    tags, flags = tagged[wanted[0]]
    more = [SEVERAL_TAG_TASKS] * (len(wanted) > 1) + [PARTIAL] * (len(kept) < len(results))
    return Answer(tags, tuple(dict.fromkeys([*flags, *more])), calls=0, results=_within_bounds(kept))


def _is_usable(name: Any, result: Any) -> bool:
    """A task without `data` has failed, however that is shown."""
    return isinstance(result, dict) and isinstance(result.get("data"), dict) and storable({name: result})


def _tags(result: Json) -> tuple[TagSets, tuple[str, ...]] | None:
    """By shape: names of tasks are the user's own. None: it is another kind of task."""
    tags = result["data"].get("tags")
    if not (isinstance(tags, dict) and "auto" in tags):
        return None
    try:
        return tags_of(tags)
    except BadResponseError:
        return None


def _within_bounds(results: Json) -> Json:
    """All or, beyond what any answer may have, none: the tags stand apart from them."""
    return results if len(orjson.dumps(results)) <= MAX_BODY_BYTES else {}


def _complaints(results: Any) -> str:
    """What failed tasks said."""
    failed = results.values() if isinstance(results, dict) else ()
    said = [result.get("error") for result in failed if isinstance(result, dict) and "data" not in result]
    texts = sorted({excerpt(text.encode(errors="replace")) for text in said if isinstance(text, str)})
    return f": {'; '.join(texts)}" if texts else ""
