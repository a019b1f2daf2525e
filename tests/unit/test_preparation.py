"""Which engine a run gets, where its tags go, and what must not start."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagmill.config.settings import Settings
from tagmill.producer.preparation import RunOptions, new_run_id, prepare
from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.spec import Input, Kind, SourceSpec
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate
from tagmill.worker.store.runs import RunSpec

SOURCES = {
    Kind.S3: SourceSpec(Kind.S3, "s3://bucket/prefix"),
    Kind.FOLDER: SourceSpec(Kind.FOLDER, "file:///photos"),
    Kind.HANDLES: SourceSpec(Kind.HANDLES, "-"),
}
ALL_VERSIONS = replace(SOURCES[Kind.S3], all_versions=True)
REDIS: dict[str, Any] = {"redis_url": "redis://localhost"}
KEYS: dict[str, Any] = {"filestack_api_key": "key", "filestack_app_secret": "secret"}


def prepared(kind: Kind, options: RunOptions | None = None, **settings: Any) -> RunSpec:
    return prepare(Settings(**settings), SOURCES[kind], options or RunOptions())


def refusal(kind: Kind, options: RunOptions | None = None, **settings: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        prepared(kind, options, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- engine -----------------------------------------------------------------------------------------------


def test_a_folder_without_credentials_is_tried_in_the_sandbox() -> None:
    spec = prepared(Kind.FOLDER)
    assert (spec.engine, spec.write_back, spec.embedded) == ("sandbox", ("sidecar",), True)


@pytest.mark.parametrize("kind", Kind)
def test_with_credentials_filestack_is_asked(kind: Kind) -> None:
    assert prepared(kind, **KEYS).engine == "filestack"


@pytest.mark.parametrize("kind", [Kind.S3, Kind.HANDLES])
def test_without_credentials_other_sources_are_refused(kind: Kind) -> None:
    assert "TAGMILL_FILESTACK_API_KEY" in refusal(kind)
    assert "--engine sandbox" in refusal(kind)


def test_filestack_by_name_needs_credentials_for_a_folder_too() -> None:
    assert "no Filestack credentials" in refusal(Kind.FOLDER, engine="filestack")


@pytest.mark.parametrize("kind", Kind)
def test_the_sandbox_can_be_asked_for(kind: Kind) -> None:
    assert prepared(kind, engine="sandbox", **KEYS).engine == "sandbox"


def test_a_fleet_has_no_embedded_sandbox() -> None:
    assert "a fleet has no embedded sandbox" in refusal(Kind.S3, engine="sandbox", **REDIS)
    assert "no Filestack credentials" in refusal(Kind.FOLDER, RunOptions(shared_path=True), **REDIS)


WORKFLOW: dict[str, Any] = {
    "engine": "filestack-workflow",
    "workflow_id": "11111111-2222-4333-8444-555555555555",
}


@pytest.mark.parametrize("kind", Kind)
def test_a_workflow_and_its_task_are_frozen_and_make_another_configuration(kind: Kind) -> None:
    spec = prepared(kind, **WORKFLOW, task_name="tags_1", job_seconds=30, filestack_resize=100, **KEYS)
    options = {"workflow_id": WORKFLOW["workflow_id"], "task_name": "tags_1"}
    assert (spec.engine, spec.engine_options) == ("filestack-workflow", options)
    assert (spec.job_seconds, spec.job_deadline, spec.resize) == (30, 900, None)
    assert prepared(kind, **KEYS).job_seconds is None


def test_a_workflow_needs_its_id_and_credentials() -> None:
    assert "say --workflow-id" in refusal(Kind.S3, engine="filestack-workflow", **KEYS)
    assert "no Filestack credentials" in refusal(Kind.FOLDER, **WORKFLOW)


@pytest.mark.parametrize("engine", [None, "filestack", "sandbox"])
@pytest.mark.parametrize("option", [{"workflow_id": WORKFLOW["workflow_id"]}, {"task_name": "tags_1"}])
def test_other_engines_have_no_use_for_a_workflow(engine: str | None, option: dict[str, Any]) -> None:
    said = refusal(Kind.S3, engine=engine, **option, **KEYS)
    assert said.startswith(f"--{next(iter(option)).replace('_', '-')} is for --engine filestack-workflow")


# --- write-back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Kind.S3, ("metadata",)), (Kind.FOLDER, ("sidecar",)), (Kind.HANDLES, ())],
)
def test_each_source_has_its_own_place_for_tags(kind: Kind, expected: tuple[str, ...]) -> None:
    assert prepared(kind, **KEYS).write_back == expected
    assert prepared(kind, write_back="none", **KEYS).write_back == ()


def test_the_sandboxs_tags_stay_out_of_a_bucket_unless_asked_for() -> None:
    assert prepared(Kind.S3, engine="sandbox").write_back == ()
    assert prepared(Kind.S3, engine="sandbox", write_back="metadata").write_back == ("metadata",)


@pytest.mark.parametrize(
    ("kind", "chosen", "allowed"),
    [
        (Kind.FOLDER, "metadata", "none or sidecar"),
        (Kind.FOLDER, "tags", "none or sidecar"),
        (Kind.HANDLES, "metadata", "none or sidecar; others need TAGMILL_FILESTACK_BUCKETS"),
    ],
)
def test_a_place_that_does_not_fit_the_source_is_refused(kind: Kind, chosen: str, allowed: str) -> None:
    said = f"--write-back {chosen} is not for this source ({kind.value}): use {allowed}"
    assert refusal(kind, write_back=chosen, **KEYS) == said


# --- fleet ------------------------------------------------------------------------------------------------


def test_a_fleet_sees_a_folder_only_where_somebody_says_so() -> None:
    assert "--shared-path" in refusal(Kind.FOLDER, **KEYS, **REDIS)
    spec = prepared(Kind.FOLDER, RunOptions(shared_path=True), **KEYS, **REDIS)
    assert not spec.embedded
    assert not prepared(Kind.S3, **KEYS, **REDIS).embedded


# --- rate, name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "run", "planned"),
    [
        (None, None, 4.0),
        ("20/s", None, 20.0),
        ("20/s", "5/s", 5.0),
        ("20/s", "50/s", 20.0),
        ("20/s,600/m", None, 10.0),
        ("20/s,50/d", "5000/d", 20.0),
        ("50/d", None, 4.0),
        (None, "50/d", 4.0),
        (None, "50/s", 50.0),
    ],
)
def test_chunks_are_planned_for_the_slower_of_account_and_run(
    account: str | None, run: str | None, planned: float
) -> None:
    options = RunOptions(rate=Rate.parse(run) if run else None)
    settings = {"rate": Rate.parse(account)} if account else {}
    spec = prepared(Kind.S3, options, **KEYS, **settings)
    assert spec.planned_rate == planned
    assert spec.rate == run


def test_the_sandbox_is_quick_by_default() -> None:
    assert prepared(Kind.FOLDER).planned_rate == 100


def test_a_run_keeps_what_was_asked_for_and_no_secret() -> None:
    spec = prepared(
        Kind.S3,
        RunOptions(run_id="my-run"),
        transfer="upload",
        keep_uploads=True,
        shard_size=50,
        chunk_size=5,
        filestack_tags_version=1,
        filestack_resize=500,
        filestack_api_key="canary-key",
        filestack_app_secret="canary-secret",
        redis_url="redis://:canary-password@localhost",
    )
    assert (spec.run_id, spec.transfer, spec.keep_uploads) == ("my-run", "upload", True)
    assert (spec.shard_size, spec.chunk_size) == (50, 5)
    assert (spec.tags_version, spec.resize) == (1, 500)
    assert "canary" not in repr(spec)


def test_a_run_keeps_its_caps() -> None:
    spec = prepared(Kind.S3, **KEYS, price_per_1000="1.50", max_cost="12", max_calls=9000, max_duration="8h")
    assert (spec.price_per_1000, spec.max_cost, spec.max_calls) == ("1.50", "12", 9000)
    assert (spec.max_duration, spec.max_failure_rate, spec.failure_sample) == (28_800, 20, 200)
    assert prepared(Kind.S3, **KEYS, max_failure_rate="5%").max_failure_rate == 5


def test_a_cap_on_the_cost_needs_a_price() -> None:
    assert "--price-per-1000" in refusal(Kind.S3, **KEYS, max_cost="12")


def test_a_new_name_has_the_date_and_is_valid() -> None:
    names = {new_run_id(datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)) for _ in range(20)}
    assert len(names) > 1
    for name in names:
        assert re.fullmatch(r"20261122-010203-[0-9a-f]{4}", name)


# --- tag policy -------------------------------------------------------------------------------------------


def test_the_policy_file_is_frozen_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("min_confidence = 60.0\ndeny = ['Blur', 'blur']\n")
    assert prepared(Kind.FOLDER, policy=file).policy == {"min_confidence": 60, "deny": ["blur"]}
    assert prepared(Kind.FOLDER).policy == {}


def test_a_policy_that_cannot_be_read_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("max_tagz = 1")
    assert "max_tagz is no key" in refusal(Kind.FOLDER, policy=tmp_path / "policy.toml")
    assert "no policy file" in refusal(Kind.FOLDER, policy=tmp_path / "gone.toml")


# --- how images are named to the service ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["raw", "quoted"])
def test_a_form_that_cannot_carry_a_signed_link_is_refused_where_links_are_signed(form: str) -> None:
    settings = {**KEYS, "filestack_url_form": form}
    assert f"TAGMILL_FILESTACK_URL_FORM {form} cannot carry" in refusal(Kind.S3, **settings)
    assert prepared(Kind.S3, **settings, filestack_storage_alias="library")
    assert prepared(Kind.S3, **settings, transfer="upload")
    assert prepared(Kind.HANDLES, **settings)


def test_an_alias_does_not_spare_a_version_its_link() -> None:
    settings = Settings(**KEYS, filestack_url_form="raw", filestack_storage_alias="library")
    with pytest.raises(ConfigError) as refused:
        prepare(settings, ALL_VERSIONS, RunOptions())
    assert "use percent or b64, or say --transfer upload" in str(refused.value)


# --- all versions -----------------------------------------------------------------------------------------


def test_versions_are_not_listed_in_parts() -> None:
    with pytest.raises(ConfigError, match="leave out --list-workers, and unset TAGMILL_LIST_WORKERS"):
        prepare(Settings(**KEYS, list_workers=2), ALL_VERSIONS, RunOptions())
    report = replace(ALL_VERSIONS, input=Input("manifest.json", ListFormat.INVENTORY))
    assert prepare(Settings(**KEYS, list_workers=2), report, RunOptions()).source["all_versions"]


@pytest.mark.parametrize("options", [RunOptions(mode="missing"), RunOptions(mode="changed")])
def test_versions_are_taken_all(options: RunOptions) -> None:
    with pytest.raises(ConfigError, match=r"--all-versions takes .*: no --mode but all"):
        prepare(Settings(**KEYS), ALL_VERSIONS, options)
