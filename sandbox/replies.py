"""What goes back to a client, with the bodies that are documented or were seen in public.

The service answers most failures as `text/plain` with a trailing newline, a few as JSON.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
ERROR = 400  #: statuses from here on are errors


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):  # noqa: N818 - a reply on its way up, not a fault of the program
    """Ends a request with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply

    @property
    def text(self) -> str:
        return self.reply.body.decode().strip()


def text_reply(status: int, message: str) -> Reply:
    return Reply(status, f"{message}\n".encode())


def json_reply(status: int, value: Any) -> Reply:
    return Reply(status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), JSON)


def traced_reply(status: int, message: str) -> Reply:
    """An error of the File and upload APIs, with its request ids (filestack-rails#174)."""
    ids = {"c": str(uuid.uuid4()), "i": f"CLR-{uuid.uuid4().hex[:8]}", "t": str(int(time.time()))}
    return json_reply(status, {"error": message, **ids})


def provider_error(status: int, stage: str, message: str) -> Reply:
    """The service's common pattern: the failing stage, the message, the index of the source."""
    return text_reply(status, f"{stage} provider error: {message} (idx 0)")


def invalid_parameter(parameter: str, task: str) -> Reply:
    return text_reply(400, f"invalid parameter `{parameter}` for `{task}` task")


def unreadable() -> Reply:
    """filestack-ios#68; its status was not recorded, 400 is ours."""
    return provider_error(400, "conv20", "Failed to identify the file, probably corrupted image provided")


def unsupported(mimetype: str) -> Reply:
    """filestack-js#259."""
    return provider_error(400, "conv20", f"{mimetype} conversions are not supported")


def invalid_application() -> Reply:
    """filestack-ruby#15."""
    return provider_error(403, "storage", "Invalid Application")


def not_found() -> Reply:
    """The service's own text was never recorded."""
    return provider_error(404, "storage", "File not found")
