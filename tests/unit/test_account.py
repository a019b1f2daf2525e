"""Who shares a key at a service shares its rate."""

from __future__ import annotations

import pytest

from tagmill.config.settings import Settings, load_settings
from tagmill.worker.account import DEFAULT_RATE, account_caps, account_id, account_rate
from tagmill.worker.rate import Rate
from tagmill.worker.store.grants import Period


def account(**changed: object) -> Settings:
    credentials = {"filestack_api_key": "key-a", "filestack_app_secret": "secret"}
    return load_settings({**credentials, "filestack_cdn_url": "https://cdn.example.com", **changed})


def test_key_and_address_make_the_account_and_the_secret_does_not() -> None:
    assert account_id(account()) == account_id(account(filestack_app_secret="rotated"))
    assert account_id(account()) == account_id(account(filestack_cdn_url="https://cdn.example.com/"))
    others = [
        account(filestack_api_key="key-b"),
        account(filestack_cdn_url="https://cdn.example.org"),
        load_settings(),
    ]
    assert len({account_id(settings) for settings in [account(), *others]}) == 4


def test_no_key_can_be_read_from_an_account() -> None:
    assert "key-a" not in account_id(account())
    assert len(account_id(account())) == 16


def test_the_rate_is_the_setting_or_a_careful_default() -> None:
    assert account_rate(load_settings()) == DEFAULT_RATE == Rate.parse("4/s")
    assert account_rate(load_settings({"rate": "20/s,5000/h"})) == Rate.parse("20/s,5000/h")
    assert account_rate(load_settings({"rate": "5000/d"})) == Rate.parse("4/s,5000/d")


@pytest.mark.parametrize(
    ("settings", "caps"),
    [
        ({}, []),
        ({"rate": "20/s,5000/d"}, [(Period.DAY, 5000, True)]),
        ({"max_calls_per_day": 100}, [(Period.DAY, 100, False)]),
        ({"rate": "5000/d", "max_calls_per_day": 100}, [(Period.DAY, 100, False)]),
        ({"rate": "50/d", "max_calls_per_day": 100}, [(Period.DAY, 50, True)]),
        ({"max_calls_per_month": 1000}, [(Period.MONTH, 1000, False)]),
        (
            {"max_calls_per_day": 100, "max_calls_per_month": 1000},
            [(Period.DAY, 100, False), (Period.MONTH, 1000, False)],
        ),
    ],
)
def test_a_rate_per_day_waits_and_a_cap_stops(
    settings: dict[str, object], caps: list[tuple[Period, int, bool]]
) -> None:
    found = account_caps(account(**settings))
    assert [(cap.period, cap.calls, cap.waits) for cap in found] == caps
    assert {cap.owner for cap in found} <= {f"accounts/{account_id(account())}"}
