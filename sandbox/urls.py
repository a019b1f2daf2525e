"""The URL grammar of the processing edge: `/KEY/TASK=name:value,…/…/SOURCE`.

It reads the raw path, because decoding `%2F` first would lose where a source begins. Forms:
https://stage.filestack.com/docs/transformations/intelligence/tagging and the official SDKs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_HANDLE = re.compile(r"[A-Za-z0-9_-]{10,64}")
_KEY = re.compile(r"[A-Za-z0-9]+")
_SEGMENT = re.compile(r'((?:[^/"]|"[^"]*")+)/')
_SOURCE_START = re.compile(r'(?:https?|src|b64)(?:://|%3A)|"|%22', re.IGNORECASE)
_ENCODED_START = re.compile(r"(?:https?|src|b64)%3A", re.IGNORECASE)
_QUOTED = re.compile(r'(?:"|%22)(.*)(?:"|%22)', re.DOTALL)
_PARAMETER = re.compile(r'(?:[^,"]|"[^"]*")+')
_WITHOUT_SOURCE = re.compile(r"workflow_status(?:=|%3D)[^/]*", re.IGNORECASE)
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"  #: what is kept of an external URL as it is sent

#: Names that are tasks wherever they stand; any other first segment is an API key.
TASKS = frozenset(
    {
        *(
            "b64",
            "cache",
            "caption",
            "copyright",
            "debug",
            "detect_faces",
            "doc_detection",
            "image_sentiment",
        ),
        *("metadata", "ocr", "output", "quality", "resize", "rotate", "run_workflow", "security", "sfw"),
        *("store", "tags", "text_sentiment", "workflow_status"),
    }
)


WORKFLOW_TASKS = frozenset({"run_workflow", "workflow_status"})


class AddressError(ValueError):
    """No request of this grammar; the text is for the client."""


@dataclass(frozen=True, slots=True)
class HandleSource:
    handle: str

    @property
    def name(self) -> str:
        return self.handle


@dataclass(frozen=True, slots=True)
class AliasSource:
    alias: str
    path: str  #: decoded; undecodable bytes as surrogates

    @property
    def name(self) -> str:
        """Without the surrogates that no JSON can hold."""
        shown = self.path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return f"src://{self.alias}/{shown}"


@dataclass(frozen=True, slots=True)
class UrlSource:
    url: str  #: as it is fetched, maybe signed: never logged

    @property
    def name(self) -> str:
        """Names the image, not the request: without a presigned query, a hash in place of any other."""
        parts = urlsplit(self.url)
        bare = f"{parts.scheme}://{parts.netloc}{parts.path}"
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not _signs(pair[0])]
        return f"{bare}?{hashlib.sha256(urlencode(query).encode()).hexdigest()[:16]}" if query else bare


@dataclass(frozen=True, slots=True)
class NoSource:
    """Of a task that is not about a file."""

    name: str = ""


Source = HandleSource | AliasSource | UrlSource | NoSource


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    params: Mapping[str, str]  #: a bare word such as `false` is a name with an empty value


@dataclass(frozen=True, slots=True)
class Address:
    """One request, understood."""

    source: Source
    tasks: tuple[Task, ...]  #: in order, without `security`
    api_key: str | None
    policy: str | None
    signature: str | None
    cache_key: str  #: the URL without its security: what the CDN tells answers apart by


def parse_address(raw_path: bytes) -> Address:
    """Raise AddressError for anything outside the grammar."""
    segments, source = _split(raw_path.decode("latin-1").removeprefix("/"))
    api_key = _take_key(segments)
    tasks = _read_tasks(segments)
    security = [task for task in tasks if task.name == "security"]
    if len(security) > 1:
        raise AddressError("more than one security task")
    policy, signature = _read_security(security[0].params) if security else (None, None)
    return Address(
        source=NoSource() if source is None else _read_source(source),
        tasks=tuple(task for task in tasks if task.name != "security"),
        api_key=api_key,
        policy=policy,
        signature=signature,
        cache_key=_cache_key(api_key, segments, tasks, source),
    )


def _split(text: str) -> tuple[list[str], str | None]:
    """Task segments, and the source that ends a path and may itself hold slashes."""
    segments = []
    while not _SOURCE_START.match(text) and (segment := _SEGMENT.match(text)):
        segments.append(segment[1])
        text = text[segment.end() :]
    return ([*segments, text], None) if _WITHOUT_SOURCE.fullmatch(text) else (segments, text)


def _take_key(segments: list[str]) -> str | None:
    if segments and _KEY.fullmatch(segments[0]) and segments[0] not in TASKS:
        return segments.pop(0)
    return None


def _read_tasks(segments: list[str]) -> list[Task]:
    """Plain segments; `b64` is followed by one that holds further tasks as encoded JSON."""
    tasks: list[Task] = []
    rest = iter(segments)
    for segment in rest:
        if segment == "b64":
            tasks += _read_encoded_tasks(next(rest, ""))
        else:
            tasks.append(read_task(unquote(segment)))
    return tasks


def read_task(text: str) -> Task:
    name, _, params = text.partition("=")
    pairs = (param.partition(":") for param in _PARAMETER.findall(params))
    return Task(name, {key.strip(): value.strip().strip('"') for key, _, value in pairs})


def _read_encoded_tasks(segment: str) -> list[Task]:
    """JavaScript writes `name` and `params`, Go `Name` and `Params`."""
    try:
        items = [{key.lower(): value for key, value in item.items()} for item in json.loads(_decode(segment))]
        return [Task(str(item["name"]), _as_text(item.get("params") or {})) for item in items]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise AddressError("b64 tasks are not a base64 encoded list of tasks") from error


def _as_text(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}


def _read_security(params: Mapping[str, str]) -> tuple[str | None, str | None]:
    for name in params:
        if name not in {"p", "policy", "s", "signature"}:
            raise AddressError(f"invalid parameter `{name}` for `security` task")
    return params.get("p", params.get("policy")), params.get("s", params.get("signature"))


def _cache_key(api_key: str | None, segments: list[str], tasks: list[Task], source: str | None) -> str:
    if "b64" in segments:  # security may be inside the encoded tasks
        kept = [f"{task.name}={json.dumps(dict(task.params))}" for task in tasks if task.name != "security"]
    else:
        kept = [segment for segment, task in zip(segments, tasks, strict=True) if task.name != "security"]
    return "/".join([api_key or "", *kept, source or ""])


def _read_source(text: str) -> Source:
    """A handle, an external URL or a storage alias: raw, quoted, percent-encoded or base64."""
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1]
    encoded = _ENCODED_START.match(text) is not None
    if encoded:
        text = unquote(text, errors="surrogateescape")
    if text.lower().startswith("b64://"):
        text, encoded = _decode_text(text[len("b64://") :]), True
    if text.lower().startswith("src://"):
        return _read_alias(text[len("src://") :], decoded=encoded)
    if "://" in text:
        return read_url(text)
    if not _HANDLE.fullmatch(text):
        raise AddressError("malformed handle")
    return HandleSource(text)


def _read_alias(text: str, *, decoded: bool) -> AliasSource:
    alias, _, path = text.partition("/")
    if not alias or not path:
        raise AddressError("a storage alias needs a path: src://alias/path")
    return AliasSource(alias, path if decoded else unquote(path, errors="surrogateescape"))


def read_url(text: str) -> UrlSource:
    """An external source, fit to be fetched. Raise AddressError."""
    url, _, _ = text.partition("#")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AddressError("malformed external URL") from error
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise AddressError("an external URL must be http or https")
    if "@" in parts.netloc:
        raise AddressError("an external URL must not hold credentials")
    return UrlSource(quote(url.encode(errors="surrogateescape"), safe=_URL_SAFE))


def _decode_text(text: str) -> str:
    try:
        return _decode(text).decode(errors="surrogateescape")
    except ValueError as error:
        raise AddressError("the source is not properly url-safe base64 encoded") from error


def _decode(text: str) -> bytes:
    """Padding is required; `%3D` is as good as `=`. Raise ValueError."""
    try:
        return base64.b64decode(unquote(text), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _signs(query_name: str) -> bool:
    return query_name.lower().startswith("x-amz-")
