"""Where a setting comes from, and what an invalid one says: one line, the name, the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagmill.config.settings import load_settings
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

CANARY = "canary-3f9a1c77"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No `tagmill.toml` but a test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(**flags: object) -> str:
    with pytest.raises(ConfigError) as refused:
        load_settings(flags)
    text = str(refused.value)
    assert "\n" not in text
    return text


# --- precedence -------------------------------------------------------------------------------------------


def test_flag_beats_environment_beats_file_beats_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().chunk_seconds == 240
    (folder / "tagmill.toml").write_text("chunk_seconds = 100\nshard_size = 500\nrate = '7/s'\n")
    assert load_settings().chunk_seconds == 100
    monkeypatch.setenv("TAGMILL_CHUNK_SECONDS", "50")
    assert load_settings().chunk_seconds == 50
    assert load_settings({"chunk_seconds": 25}).chunk_seconds == 25
    assert load_settings({"chunk_seconds": None}).chunk_seconds == 50
    assert (load_settings().shard_size, load_settings().rate) == (500, Rate.parse("7/s"))


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_REDIS_URL", "")
    monkeypatch.setenv("TAGMILL_FILESTACK_API_KEY", "")
    assert load_settings().redis_url is None
    assert not load_settings().has_credentials


def test_the_test_suites_own_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_TEST_WHEEL", "1")
    load_settings()


def test_line_ends_around_a_secret_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_FILESTACK_API_KEY", " key\n")
    monkeypatch.setenv("TAGMILL_FILESTACK_APP_SECRET", "secret\r\n")
    assert load_settings().secrets() == ["key", "secret"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("'sidecar, metadata'", "metadata,sidecar"),
        ("['sidecar', 'metadata']", "metadata,sidecar"),
        ("'none'", "none"),
    ],
)
def test_places_for_tags_are_named_in_any_order(folder: Path, written: str, read: str) -> None:
    (folder / "tagmill.toml").write_text(f"write_back = {written}\n")
    assert load_settings().write_back == read


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        (None, [0.5, 0.3, 0.2]),
        ("backfill = 25%, events=75", [0.75, 0.0, 0.25]),
        ({"nightly": 100, "events": 0}, [0.0, 1.0, 0.0]),
    ],
)
def test_lanes_have_their_shares_of_the_rate(said: object, shares: list[float]) -> None:
    settings = load_settings({"lane_shares": said})
    assert [settings.share_of(lane) for lane in ("events", "nightly", "backfill")] == shares


# --- what is refused --------------------------------------------------------------------------------------

REDIS_RULE = "write redis://host:port/db, rediss://host:port/db or unix:///path"
HTTP_RULE = "write an http:// or https:// address, without user and password"
SHARES_RULE = (
    "write percentages, 100 at most together, of events, nightly, backfill, such as events=50,backfill=20"
)
RATE_RULE = "write calls per unit, such as 20/s or 20/s,5000/d (units s, m, h, d)"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("rate", "fast", RATE_RULE),
        ("rate", "0/s", RATE_RULE),
        ("rate", "-1/s", RATE_RULE),
        ("rate", "5", RATE_RULE),
        ("rate", "5/w", RATE_RULE),
        ("rate", "5/s,", RATE_RULE),
        ("lane_shares", "events", SHARES_RULE),
        ("lane_shares", "events=half", SHARES_RULE),
        ("lane_shares", "uploads=50", SHARES_RULE),
        ("lane_shares", "events=50,events=20", SHARES_RULE),
        ("lane_shares", "events=80,backfill=21", SHARES_RULE),
        ("redis_url", "localhost:6379", REDIS_RULE),
        ("redis_url", "http://localhost", REDIS_RULE),
        ("redis_url", "redis://localhost:port", REDIS_RULE),
        ("redis_url", "redis://localhost:99999", REDIS_RULE),
        ("redis_url", "redis://localhost/first", REDIS_RULE),
        ("redis_url", "redis:///0", REDIS_RULE),
        ("redis_url", "redis://[::1", REDIS_RULE),
        ("redis_url", "unix://", REDIS_RULE),
        (
            "redis_url",
            "redis+cluster://localhost",
            "Celery cannot use Redis Cluster as a broker; name a single",
        ),
        ("redis_prefix", "a:b", "String should match pattern"),
        ("run_store", " ", "String should have at least 1 character"),
        ("concurrency", "0", "Input should be greater than or equal to 1"),
        ("concurrency", "many", "Input should be a valid integer"),
        ("processes", "65", "Input should be less than or equal to 64"),
        ("engine", "rekognition", "Input should be 'filestack', 'filestack-workflow' or 'sandbox'"),
        ("workflow_id", "people", "write the Workflow's id as the portal shows it"),
        ("write_back", "labels", "write one or more of metadata, tags, annotation, sidecar"),
        ("filestack_buckets", "one, two", "String should match pattern"),
        ("write_back", ",", "write one or more of metadata"),
        ("write_back", "sidecar,metadata,sidecar", "sidecar is named twice"),
        ("write_back", "none,sidecar", "none goes with nothing else"),
        ("transfer", "url", "Input should be 'auto' or 'upload'"),
        ("keep_uploads", "maybe", "Input should be a valid boolean"),
        ("shard_size", "10001", "Input should be less than or equal to 10000"),
        ("chunk_size", "1001", "Input should be less than or equal to 1000"),
        ("chunk_seconds", "0", "Input should be greater than 0"),
        ("chunk_seconds", "501", "Input should be less than or equal to 500"),
        ("chunk_seconds", "nan", "Input should be"),
        ("lease_seconds", "0.5", "Input should be greater than or equal to 1"),
        ("call_timeout", "301", "Input should be less than or equal to 300"),
        ("outage_seconds", "-1", "Input should be greater than 0"),
        ("filestack_cdn_url", "cdn.example.com", HTTP_RULE),
        ("filestack_api_url", "https://user:password@example.com", HTTP_RULE),
        ("filestack_storage_alias", "my/bucket", "String should match pattern"),
        ("filestack_tags_version", "3", "Input should be less than or equal to 2"),
        ("filestack_resize", "0", "Input should be greater than or equal to 1"),
        ("filestack_url_form", "base64", "Input should be 'percent', 'raw', 'quoted' or 'b64'"),
        ("s3_endpoint_url", "http://[x", HTTP_RULE),
        ("s3_endpoint_url", "https://host:port", HTTP_RULE),
        ("log_level", "chatty", "Input should be 'debug', 'info', 'warning' or 'error'"),
        ("log_format", "xml", "Input should be 'console' or 'json'"),
    ],
)
def test_an_invalid_value_names_where_it_stands_and_the_rule(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    variable = f"TAGMILL_{name.upper()}"
    assert complaint(**{name: value}).startswith(f"--{name.replace('_', '-')}: {rule}")
    monkeypatch.setenv(variable, value)
    assert complaint().startswith(f"{variable}: {rule}")
    monkeypatch.delenv(variable)
    (folder / "tagmill.toml").write_text(f'{name} = "{value}"\n')
    assert complaint().startswith(f"tagmill.toml: {name}: {rule}")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("TAGMILL_RATES", "did you mean TAGMILL_RATE?"),
        ("TAGMILL_REDIS", "did you mean TAGMILL_REDIS_URL?"),
        ("TAGMILL_FILESTACK_SECRET", "did you mean TAGMILL_FILESTACK_APP_SECRET?"),
        ("tagmill_conurrency", "did you mean TAGMILL_CONCURRENCY?"),
        ("TAGMILL_QQQ", "see docs/configuration.md"),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "1")
    assert complaint() == f"{variable} is no setting of Tagmill; {hint}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ratee = '1/s'", "tagmill.toml: ratee is no setting of Tagmill; did you mean rate?"),
        (
            b"[tagmill]",
            "tagmill.toml: tagmill is no setting of Tagmill; see docs/configuration.md",
        ),
        (b"rate = #", "tagmill.toml: Invalid value (at line 1, column 8)"),
        (b"rate = 5", f"tagmill.toml: rate: {RATE_RULE}"),
        (b"# \xff", "tagmill.toml: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_a_mistake_in_the_file_is_named(folder: Path, content: bytes, said: str) -> None:
    (folder / "tagmill.toml").write_bytes(content)
    assert complaint() == said


@pytest.mark.parametrize(("given", "missing"), [("API_KEY", "APP_SECRET"), ("APP_SECRET", "API_KEY")])
def test_half_a_credential_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, missing: str) -> None:
    monkeypatch.setenv(f"TAGMILL_FILESTACK_{given}", CANARY)
    expected = f"TAGMILL_FILESTACK_{missing} is missing: set key and secret, or neither"
    assert complaint() == expected
    monkeypatch.setenv(f"TAGMILL_FILESTACK_{missing}", " ")
    assert complaint().startswith(f"TAGMILL_FILESTACK_{missing}: ")


# --- secrets ----------------------------------------------------------------------------------------------


def test_secrets_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {
            "redis_url": f"redis://:{CANARY}@localhost/0",
            "filestack_api_key": CANARY,
            "filestack_app_secret": CANARY,
        }
    )
    assert CANARY not in f"{settings!r} {settings}"
    monkeypatch.setenv("TAGMILL_REDIS_URL", f"redis://:{CANARY}@localhost:port")
    assert CANARY not in complaint()
    monkeypatch.setenv("TAGMILL_REDIS_URL", f"redis+cluster://:{CANARY}@localhost")
    assert CANARY not in complaint()


def test_all_credentials_are_known_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")):
        monkeypatch.setenv(f"AWS_{name}", f"aws-{number}")
    credentials = {"filestack_api_key": "key", "filestack_app_secret": "secret"}
    settings = load_settings({"redis_url": "redis://user:p%40ss@localhost/0", **credentials})
    known = {"key", "secret", "p%40ss", "p@ss", "aws-0", "aws-1", "aws-2"}
    assert set(settings.secrets()) == known
