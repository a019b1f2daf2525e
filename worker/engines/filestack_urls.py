"""Request targets of Filestack's processing host: `/<key>/<security>/<tasks>/<source>`.

https://www.filestack.com/docs/transformations/intelligence/tagging
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, urlsplit

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.errors import ImageRejectedError
from tagmill.worker.models import HANDLE

ALIAS_SCHEME = "src://"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PLAIN = re.compile(r"[^\x00-\x20\"#%?\x7f-\U0010ffff]+")  # what a path can carry as it is

Parameters = Mapping[str, str | int]
Task = tuple[str, Parameters]  #: name and parameters
PLAIN_TAGS: Task = ("tags", {})
#: What answers with places in the picture, or reads what is small in it.
NOT_RESIZED = frozenset({"doc_detection", "ocr", "run_workflow", "workflow_status"})


class UrlForm(StrEnum):
    """How a source that is no handle is written into the path; all four are in public use."""

    PERCENT = "percent"  #: everything but unreserved characters encoded (`src://` and `/` of an alias stay)
    RAW = "raw"  #: as it is; refused where a path could not carry it
    QUOTED = "quoted"  #: like raw, between double quotes, as filestack-js writes it
    B64 = "b64"  #: tasks and source as URL-safe base64, as filestack-js and filestack-go write them


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """Builds the target of one image; everything but image and signature is fixed for a run."""

    api_key: str
    version: int | None = None  #: of the vocabulary; None leaves it to the service
    resize_height: int | None = None  #: shrink to this many pixels before tagging
    form: UrlForm = UrlForm.PERCENT
    security_first: bool = True  #: older documentation has it between tasks and source

    def of(self, locator: Locator, security: str, task: Task = PLAIN_TAGS) -> str:
        """`security` is a path segment. Raise `ImageRejectedError` for an impossible source."""
        fresh = ["cache=false"] if locator.fresh else []
        if locator.transfer in (Transfer.HANDLE, Transfer.UPLOAD):
            return _path(*fresh, *self._middle(security, task), checked_handle(locator.value))
        key = quote(self.api_key, safe="")  # mandatory for anything but a handle
        return _path(key, *fresh, *self._middle(security, task, self.form), _external(locator, self.form))

    def alone(self, security: str, task: Task) -> str:
        """A task that is about no image."""
        return _path(quote(self.api_key, safe=""), *self._middle(security, task))

    def _middle(self, security: str, task: Task, form: UrlForm = UrlForm.PERCENT) -> list[str]:
        """Security and tasks, in order."""
        asked = self._tasks(*task)
        tasks = [_segment(*one) for one in asked]
        if form is UrlForm.B64:
            tasks = ["b64", _b64_tasks(asked)]
        return [security, *tasks] if self.security_first else [*tasks, security]

    def _tasks(self, name: str, parameters: Parameters) -> list[Task]:
        """In order of execution."""
        height = None if name in NOT_RESIZED else self.resize_height
        resize: list[Task] = [] if height is None else [("resize", {"h": height})]
        version = {"version": self.version} if name == "tags" and self.version is not None else {}
        return [*resize, (name, {**version, **parameters})]


def _path(*segments: str) -> str:
    return "/" + "/".join(segments)


def checked_handle(handle: str) -> str:
    if HANDLE.fullmatch(handle) is None:
        raise ImageRejectedError("not a Filestack handle: 10 to 64 letters, digits, _ or - are expected")
    return handle


def _segment(name: str, parameters: Parameters) -> str:
    pairs = ",".join(f"{key}:{value}" for key, value in parameters.items())
    return f"{name}={pairs}" if pairs else name


def _b64_tasks(tasks: list[Task]) -> str:
    return _b64(json.dumps([{"name": name, "params": dict(parameters)} for name, parameters in tasks]))


def _b64(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


def _external(locator: Locator, form: UrlForm) -> str:
    """The source segment of an alias or a URL."""
    source, kept = _checked(locator)
    if form is UrlForm.PERCENT:
        return f"{kept}{quote(source.removeprefix(kept), safe='/' if kept else '')}"
    if form is UrlForm.B64:
        return f"b64://{_b64(source)}"
    if _PLAIN.fullmatch(source) is None:
        raise ImageRejectedError(f"this address cannot be written into a path in the form {form.value!r}")
    return f'"{source}"' if form is UrlForm.QUOTED else source


def _checked(locator: Locator) -> tuple[str, str]:
    """The source, and the prefix of it that is never encoded."""
    source = locator.value
    if _SURROGATE.search(source):
        raise ImageRejectedError("the image's name is no Unicode text")
    if locator.transfer is Transfer.ALIAS:
        return source, ALIAS_SCHEME
    if not _is_web_address(source):
        raise ImageRejectedError("the image's address is no http or https URL, or it holds a password")
    return source, ""


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    plain = _CONTROL.search(url) is None and "@" not in parts.netloc
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)
