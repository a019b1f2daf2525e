"""`docker-compose.yml` is valid and keeps what the promises rest on; no Docker engine is needed to know."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tagmill.config.settings import Settings

ROOT = Path(__file__).parent.parent
SETTINGS = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match is not None, duration
    return int(match[1])


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    vendor = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(vendor.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_redis_neither_evicts_nor_forgets(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert "--maxmemory" in options
    assert "redis:/data" in compose["services"]["redis"]["volumes"]


def test_every_service_that_stays_says_whether_it_is_well(compose: dict[str, Any]) -> None:
    staying = {name for name, service in compose["services"].items() if service.get("restart") != "no"}
    assert {name for name in staying if "healthcheck" in compose["services"][name]} == staying
    assert staying == {"redis", "worker", "events", "receiver", "beat", "sandbox"}


def test_every_service_has_time_to_park_its_work(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert seconds(service["stop_grace_period"]) >= 30, name


def test_workers_and_the_producer_share_redis_and_the_run_store(compose: dict[str, Any]) -> None:
    worker, run = (compose["services"][name] for name in ("worker", "run"))
    assert worker["environment"] == run["environment"]
    assert worker["volumes"] == run["volumes"] == ["runs:/data/runs"]
    assert set(compose["volumes"]) == {"redis", "runs"}


def test_the_worker_can_be_scaled(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/env.example", "Dockerfile"])
def test_only_settings_that_exist_are_named(name: str) -> None:
    assert set(re.findall(r"TAGMILL_[A-Z0-9_]+", (ROOT / name).read_text())) <= SETTINGS


def test_no_secret_is_baked_in(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert not [name for name in service.get("environment", {}) if re.search("KEY|SECRET|TOKEN", name)]
    example = (ROOT / "deploy/env.example").read_text()
    assert re.findall(r"^TAGMILL_FILESTACK_(?:API_KEY|APP_SECRET)=(.*)$", example, re.MULTILINE) == ["", ""]
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_the_image_is_built_from_the_lock_file_and_runs_without_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.txt" in dockerfile
    assert re.search(r"^USER tagmill$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tagmill"\]$', dockerfile, re.MULTILINE)


def test_a_build_sees_only_what_the_dockerfile_copies() -> None:
    sources: set[str] = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            sources.update(line.split()[1:-1])
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert shown == sources
