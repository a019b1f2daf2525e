"""Settings survive the way into a child process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tagmill.config.environment import child_environment, to_environment
from tagmill.config.settings import Settings, load_settings
from tagmill.worker.rate import Rate, Window


def reread(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a child process makes of them."""
    with monkeypatch.context() as patched:
        for name, value in to_environment(settings).items():
            patched.setenv(name, value)
        return load_settings()


def test_every_setting_arrives_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "redis_url": "unix:///tmp/redis.sock",
        "redis_prefix": "other",
        "run_store": "s3://bucket/prefix",
        "state_dir": tmp_path,
        "rate": Rate.parse("2.5/s,600/m"),
        "concurrency": 3,
        "processes": 2,
        "lanes": "events,backfill",
        "lane_shares": "events=62.5,backfill=20",
        "engine": "filestack-workflow",
        "workflow_id": "11111111-2222-4333-8444-555555555555",
        "task_name": "tags_1",
        "job_seconds": 30.5,
        "job_deadline": 600.5,
        "write_back": "metadata,sidecar",
        "policy": tmp_path / "policy.toml",
        "pipeline": tmp_path / "pipeline.toml",
        "transfer": "upload",
        "keep_uploads": True,
        "dedupe": "exact",
        "max_calls": 1000,
        "max_cost": "12.50",
        "max_calls_per_day": 100,
        "max_calls_per_month": 2000,
        "price_per_1000": "1.50",
        "s3_prices": {"put_per_1000": "0.005", "get_per_1000": "0.0004", "as_of": "2026-11-01"},
        "max_duration": "1d12h",
        "max_failure_rate": "12.5%",
        "failure_sample": 50,
        "list_workers": 3,
        "shard_size": 7,
        "chunk_size": 5,
        "chunk_seconds": 1.5,
        "lease_seconds": 2.5,
        "call_timeout": 3.5,
        "outage_seconds": 4.5,
        "filestack_api_key": "key",
        "filestack_app_secret": "se=cr et",
        "filestack_cdn_url": "http://127.0.0.1:1",
        "filestack_api_url": "http://127.0.0.1:1/api",
        "filestack_storage_alias": "alias",
        "filestack_buckets": "one,two",
        "sidecar_prefix": "s3://other/tags",
        "filestack_tags_version": 1,
        "filestack_resize": 100,
        "filestack_url_form": "b64",
        "s3_endpoint_url": "http://127.0.0.1:2",
        "probe": "off",
        "allow_new_versions": True,
        "allow_copy_events": True,
        "webhook_max_age": "24h",
        "webhook_grace": "5m",
        "log_level": "debug",
        "log_format": "json",
    }
    settings = load_settings(given)
    others = {"webhooks", "webhook_secrets", "schedule"}  # of a receiver or a beat, which have no children
    assert set(given) | others == set(Settings.model_fields)
    assert reread(settings, monkeypatch) == settings


def test_defaults_arrive_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert reread(load_settings(), monkeypatch) == load_settings()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.floats(0.01, 10_000).map(lambda calls: round(calls, 2)), seconds=st.sampled_from([1, 60, 3600])
)
def test_any_rate_arrives(monkeypatch: pytest.MonkeyPatch, calls: float, seconds: int) -> None:
    rate = Rate((Window(calls, seconds),))
    arrived = reread(load_settings({"rate": rate}), monkeypatch).rate
    assert arrived is not None
    assert arrived.per_second == pytest.approx(rate.per_second, rel=1e-4)


def test_a_child_gets_these_settings_and_no_others() -> None:
    at_hand = {"PATH": "/bin", "TAGMILL_RATE": "1/s", "TAGMILL_LOG_LEVEL": "debug", "AWS_PROFILE": "mine"}
    child = child_environment(load_settings({"rate": "9/s"}), at_hand)
    assert (child["PATH"], child["AWS_PROFILE"]) == ("/bin", "mine")
    assert (child["TAGMILL_RATE"], child["TAGMILL_LOG_LEVEL"]) == ("9/s", "info")
    assert "TAGMILL_REDIS_URL" not in child
