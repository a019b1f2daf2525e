"""What a signed body says; what cannot be understood is set aside with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tagmill.worker.store.quarantine import Quarantined
from tagmill.worker.store.webhook_events import DELETE, OVERWRITE, UPLOAD, WORKFLOW, Event

MAX_WORD = 200  #: characters of an id or an action
MAX_ID = 2**63  #: what every reader of JSON keeps exactly

Redact = Callable[[str], str]


def read_event(endpoint: str, received_at: str, body: bytes, redact: Redact) -> Event | Quarantined:
    """`redact` takes out what may not be kept: a text may quote a signed address."""
    try:
        text = redact(body.decode())
        value = orjson.loads(text)
    except ValueError:
        return Quarantined(endpoint, received_at, "not_json", redact(body.decode(errors="replace")))
    reason = _what_is_missing(value)
    if reason is None:
        event = Event(endpoint, received_at, value["id"], value["action"], value["text"])
        reason = what_is_unclear(event)
        if reason is None:
            return event
    return Quarantined(endpoint, received_at, reason, value)


def what_is_unclear(event: Event) -> str | None:
    """Why an event cannot be attributed; None: it can, or nobody needs to."""
    if event.action == WORKFLOW:
        return _unclear_result(event)
    if event.action in {UPLOAD, OVERWRITE, DELETE} and event.handle is None:
        return "no_handle"
    return None


def _unclear_result(event: Event) -> str | None:
    sources = event.text.get("sources")
    if not isinstance(event.text.get("workflow"), str):
        return "no_workflow"
    if not isinstance(sources, list) or not sources or not all(isinstance(one, str) for one in sources):
        return "no_source"
    return "several_sources" if len(sources) > 1 else None


def _what_is_missing(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "not_an_object"
    if not _is_word(value.get("id")) and not _is_number(value.get("id")):
        return "no_id"
    if not _is_word(value.get("action")):
        return "no_action"
    return None if isinstance(value.get("text"), dict) else "no_text"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_WORD and value.isprintable()


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_ID <= value < MAX_ID
