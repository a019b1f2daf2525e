"""Failures on demand: which request meets which fault.

What a fault looks like is in `fault_replies` and `wire`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Operation(StrEnum):
    """A task of the processing edge by its name, a call of the File API, or a webhook."""

    TAGS = "tags"
    SFW = "sfw"
    CAPTION = "caption"
    OCR = "ocr"
    COPYRIGHT = "copyright"
    IMAGE_SENTIMENT = "image_sentiment"
    DOC_DETECTION = "doc_detection"
    RUN_WORKFLOW = "run_workflow"
    WORKFLOW_STATUS = "workflow_status"
    STORE = "store"
    DELETE = "delete"
    WEBHOOK = "webhook"  #: an event on its way out


class Fault(StrEnum):
    # instead of an answer
    BAD_REQUEST = "400"
    UNREADABLE = "unreadable"  #: 400, the text for a broken image
    UNSUPPORTED = "unsupported"  #: 400, the text for a type that is refused
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    TIMEOUT = "408"
    THROTTLED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    TEXT_200 = "text_200"  #: status 200, the text `Invalid Application`
    ERROR_200 = "error_200"  #: status 200, a JSON object with `error`
    HTML = "html"  #: status 200, a page
    EMPTY_BODY = "empty_body"
    GZIP_BOMB = "gzip_bomb"
    RESET_BEFORE = "reset_before"  #: connection reset, nothing charged
    HANG = "hang"  #: no answer for `seconds`, then a reset
    # the answer, delivered badly: charged like any other
    RESET_AFTER = "reset_after"  #: charged, then reset without a byte
    TRUNCATED = "truncated"  #: half the announced body, then the end of the connection
    DRIP = "drip"  #: the body spread over `seconds`
    # the answer, with odd data
    AUTO_EMPTY = "auto_empty"
    AUTO_NULL = "auto_null"
    AUTO_MISSING = "auto_missing"
    USER_MISSING = "user_missing"
    USER_MAP = "user_map"
    FLOATS = "floats"
    STRINGS = "strings"
    NAN = "nan"
    BOOLEANS = "booleans"
    OUT_OF_RANGE = "out_of_range"
    UNICODE = "unicode"
    LONG_LABELS = "long_labels"
    MANY_LABELS = "many_labels"
    EXTRA_KEYS = "extra_keys"
    # a workflow job
    JOB_FAILED = "job_failed"
    JOB_STUCK = "job_stuck"  #: it never ends
    # what is told of a job
    NO_JOBID = "no_jobid"
    NO_TTL = "no_ttl"
    # a webhook
    LOST = "lost"
    DOUBLED = "doubled"
    LATE = "late"  #: after `seconds`
    REORDERED = "reordered"  #: after a later one, or `seconds`
    RESIGNED = "resigned"  #: again, with another timestamp and signature
    TAMPERED = "tampered"  #: at the first try, with another body than was signed


DELIVERY = frozenset({Fault.RESET_AFTER, Fault.TRUNCATED, Fault.DRIP})
JOB = frozenset({Fault.JOB_FAILED, Fault.JOB_STUCK})
TRIMMED = frozenset({Fault.NO_JOBID, Fault.NO_TTL})
EVENT = frozenset(list(Fault)[list(Fault).index(Fault.LOST) :])
ODD_DATA = frozenset(list(Fault)[list(Fault).index(Fault.AUTO_EMPTY) :]) - JOB - TRIMMED - EVENT
INSTEAD = frozenset(Fault) - DELIVERY - ODD_DATA - JOB - TRIMMED - EVENT
SILENT = frozenset({Fault.RESET_BEFORE, Fault.HANG})  #: of INSTEAD, those that send no reply
_ALSO = {
    Operation.TAGS: ODD_DATA,
    Operation.RUN_WORKFLOW: ODD_DATA | JOB | TRIMMED,
    Operation.WORKFLOW_STATUS: TRIMMED,
}  #: beside what any request may meet


@dataclass(frozen=True, slots=True)
class FaultRule:
    """Fires for requests that meet every condition given; without conditions, for all."""

    fault: Fault
    operation: Operation = Operation.TAGS
    images: tuple[
        str, ...
    ] = ()  #: handles, file names of uploads, or source names as the arrival log has them
    every: int | None = None  #: each n-th matching request
    first: int | None = None  #: only an image's first n matching requests
    times: int | None = None  #: at most so often altogether
    probability: float | None = None
    charged: bool = False  #: bill a fault that comes instead of an answer
    seconds: float = 30.0  #: for `hang` and `drip`, `late` and `reordered`

    def __post_init__(self) -> None:
        if self.fault not in faults_of(self.operation):
            raise ValueError(f"fault {self.fault.value} is not for {self.operation.value}")
        if self.every is not None and self.every < 1:
            raise ValueError("every must be at least 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FaultRule:
        """Raise ValueError with a line for the user."""
        unknown = values.keys() - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"a fault rule has no field {min(unknown)!r}")
        if "fault" not in values:
            raise ValueError("a fault rule needs a fault")
        named = {
            "fault": Fault(str(values["fault"])),
            "operation": Operation(values.get("operation", Operation.TAGS)),
            "images": tuple(values.get("images", ())),
        }
        return cls(**{**values, **named})

    def to_json(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


def faults_of(operation: Operation) -> frozenset[Fault]:
    if operation is Operation.WEBHOOK:
        return EVENT | TRIMMED
    return INSTEAD | DELIVERY | _ALSO.get(operation, frozenset())


class Faults:
    """The rules in force. Chance depends on seed, image and count only, not on the order of arrivals."""

    def __init__(self, rules: Sequence[FaultRule] = (), seed: int = 0) -> None:
        self.replace(rules, seed)

    def replace(self, rules: Sequence[FaultRule], seed: int) -> None:
        self.rules = tuple(rules)
        self.seed = seed
        self.restart()

    def restart(self) -> None:
        """Count from nothing again."""
        self._matched = [0] * len(self.rules)
        self._fired = [0] * len(self.rules)
        self._by_image: list[Counter[str]] = [Counter() for _ in self.rules]

    @property
    def name_images(self) -> bool:
        """Whether it is worth knowing an upload's file name."""
        return any(rule.images for rule in self.rules)

    def pick(self, operation: Operation, image: str, filename: str = "") -> FaultRule | None:
        """The first rule that fires; counts the request for every rule it was held against."""
        for number, rule in enumerate(self.rules):
            named = not rule.images or image in rule.images or filename in rule.images
            if rule.operation is operation and named and self._fires(number, image):
                self._fired[number] += 1
                return rule
        return None

    def _fires(self, number: int, image: str) -> bool:
        rule = self.rules[number]
        self._matched[number] += 1
        seen = self._seen(number, image)
        return (
            (rule.times is None or self._fired[number] < rule.times)
            and (rule.every is None or self._matched[number] % rule.every == 0)
            and (rule.first is None or seen <= rule.first)
            and (rule.probability is None or self._chance(number, image, seen) < rule.probability)
        )

    def _seen(self, number: int, image: str) -> int:
        """Which of the image's requests this is; only counted where a rule asks."""
        rule = self.rules[number]
        if rule.first is None and rule.probability is None:
            return 0
        self._by_image[number][image] += 1
        return self._by_image[number][image]

    def _chance(self, number: int, image: str, seen: int) -> float:
        return random.Random(f"{self.seed}/{number}/{image}/{seen}").random()  # noqa: S311 - repeatable on purpose
