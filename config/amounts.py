"""Durations and percentages as people write them."""

from __future__ import annotations

import re

PERCENT_RULE = "write a percentage above 0 and up to 100, such as 20%"
DURATION_RULE = "write a duration such as 90m, 8h or 1d12h (units s, m, h, d; a plain number is seconds)"
AGE_RULE = "write an age with its unit, such as 90d or 12h (units s, m, h, d)"
_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
WHOLE = 100  #: percent
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def duration(value: object) -> float:
    """Return seconds. Raise ValueError, with the rule as its text, for anything else."""
    text = str(value).replace(" ", "").lower()
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        seconds = _number(text, DURATION_RULE)
    if seconds <= 0:
        raise ValueError(DURATION_RULE)
    return seconds


def age(value: object) -> float:
    """Return seconds. Raise ValueError, with the rule as its text, also for a number without a unit."""
    try:
        seconds = duration(value)
    except ValueError:
        raise ValueError(AGE_RULE) from None
    if not re.search("[dhms]", str(value).lower()):
        raise ValueError(AGE_RULE)
    return seconds


def percentage(value: object) -> float:
    """Return percent. Raise ValueError, with the rule as its text, for anything else."""
    percent = _number(str(value).strip().removesuffix("%"), PERCENT_RULE)
    if not 0 < percent <= WHOLE:
        raise ValueError(PERCENT_RULE)
    return percent


def share_of_all(value: object, rule: str) -> float:
    """Return percent, which may be 0. Raise ValueError, with that rule as its text, for anything else."""
    return _number(str(value).strip().removesuffix("%"), rule)


def _number(text: str, rule: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()) is None:
        raise ValueError(rule)
    return float(text)
