from __future__ import annotations

import re

import pytest

from tagmill.config.amounts import AGE_RULE, DURATION_RULE, PERCENT_RULE, age, duration, percentage


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90m", 5400),
        ("8h", 28_800),
        ("1d12h", 129_600),
        ("1.5h", 5400),
        ("1H 30m", 5400),
        (45, 45),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "8 hours", "-1h", "0", "0m", "1w", "8h5", "inf", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(DURATION_RULE)):
        duration(text)


@pytest.mark.parametrize("value", ["90", 90, 90.0, "1e3", "0d", "soon", ""])
def test_an_age_has_a_unit(value: object) -> None:
    """Ninety seconds instead of ninety days would pay for a whole library again."""
    assert age("90d") == 90 * 86_400
    with pytest.raises(ValueError, match=re.escape(AGE_RULE)):
        age(value)


@pytest.mark.parametrize(("text", "percent"), [("20%", 20), (" 0.5 % ", 0.5), ("100%", 100), (7, 7)])
def test_a_percentage_is_read(text: object, percent: float) -> None:
    assert percentage(text) == percent


@pytest.mark.parametrize("text", ["", "%", "0%", "101%", "-5%", "many", "1e1", "20%%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(PERCENT_RULE)):
        percentage(text)
