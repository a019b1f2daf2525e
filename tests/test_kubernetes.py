"""`deploy/kubernetes/` is valid and keeps what the promises rest on; no cluster is needed to know."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer.main
import yaml

from tagmill.config.amounts import duration
from tagmill.config.celery import LANES
from tagmill.config.settings import Settings
from tagmill.producer.cli.main import app
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.liveness import LONGEST_GAP

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy/kubernetes"
KUBERNETES = "1.30"  #: the oldest that is looked after
DRAIN_SECONDS = 60  #: `TAGMILL_CALL_TIMEOUT`
Json = dict[str, Any]


def documents(path: Path) -> list[Json]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


FILES = sorted(FOLDER.glob("*.yaml"))
OBJECTS = [document for path in FILES if path.name != "kustomization.yaml" for document in documents(path)]
WORKLOADS = [found for found in OBJECTS if found["kind"] in {"Deployment", "StatefulSet"}]
OWN = [found for found in WORKLOADS if found["metadata"]["name"] != "redis"]
[SCALING] = [found for found in OBJECTS if found["kind"] == "ScaledObject"]


def name_of(found: Json) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def pod_of(workload: Json) -> Json:
    pod: Json = workload["spec"]["template"]["spec"]
    return pod


def container_of(workload: Json) -> Json:
    [container] = pod_of(workload)["containers"]
    return dict(container)


@pytest.mark.parametrize("found", [found for found in OBJECTS if found is not SCALING], ids=name_of)
def test_it_follows_the_schema_of_kubernetes(found: Json) -> None:
    kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_what_scales_follows_the_schema_of_keda() -> None:
    jsonschema.validate(SCALING, json.loads((Path(__file__).parent / "keda.schema.json").read_text()))


def test_the_kustomization_names_what_is_there() -> None:
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    optional = {"kustomization.yaml", "scaling.yaml", "redis.yaml", "secret.yaml"}
    assert set(kustomization["resources"]) == {path.name for path in FILES} - optional


def test_workers_are_scaled_by_the_lists_that_workers_keep() -> None:
    keys = Keys(Settings.model_fields["redis_prefix"].default)
    lists = {trigger["name"]: trigger["metadata"]["listName"] for trigger in SCALING["spec"]["triggers"]}
    assert lists == {lane: keys.queue(lane) for lane in LANES} | {"useful": keys.useful_workers()}
    formula = SCALING["spec"]["advanced"]["scalingModifiers"]["formula"]
    assert set(re.findall(r"[a-z]+", formula)) - {"min"} == set(lists)
    assert SCALING["spec"]["minReplicaCount"] >= 1  # who refills is a worker
    worker = next(found for found in OWN if found["metadata"]["name"] == "tagmill-worker")
    assert SCALING["spec"]["scaleTargetRef"]["name"] == "tagmill-worker"
    assert "replicas" not in worker["spec"]  # each update would undo what was scaled


@pytest.mark.parametrize("workload", OWN, ids=name_of)
def test_every_command_exists(workload: Json) -> None:
    command, *arguments = container_of(workload)["args"]
    commands: Any = typer.main.get_command(app)
    commands.commands[command].make_context(command, list(arguments))


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_nothing_runs_as_root_or_writes_to_its_image(workload: Json) -> None:
    pod, container = pod_of(workload), container_of(workload)
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])


@pytest.mark.parametrize("workload", OWN, ids=name_of)
def test_everything_has_time_to_park_its_work(workload: Json) -> None:
    least = DRAIN_SECONDS + 15 if container_of(workload)["args"][0] == "worker" else 30
    assert pod_of(workload)["terminationGracePeriodSeconds"] >= least
    assert "lifecycle" not in container_of(workload)


@pytest.mark.parametrize(
    "workload", [found for found in OWN if container_of(found)["args"][0] == "worker"], ids=name_of
)
def test_a_worker_is_restarted_for_want_of_progress(workload: Json) -> None:
    probe = container_of(workload)["livenessProbe"]
    *command, patience = probe["exec"]["command"]
    assert command == shlex.split("tagmill probe --stuck-after")
    assert probe["periodSeconds"] + probe["timeoutSeconds"] < LONGEST_GAP * duration(patience)
    assert "readinessProbe" not in container_of(workload)  # nobody sends it requests
    strategy = workload["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_redis_neither_evicts_nor_forgets() -> None:
    [redis] = [found for found in WORKLOADS if found not in OWN]
    arguments = container_of(redis)["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")


def test_settings_exist_and_no_secret_is_written_down() -> None:
    known = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}
    for found in OBJECTS:
        said = found.get("data", {}) | found.get("stringData", {})
        assert {name for name in said if name.startswith("TAGMILL_")} <= known
    [secret] = [found for found in OBJECTS if found["kind"] == "Secret"]
    assert {value for name, value in secret["stringData"].items() if name != "TAGMILL_REDIS_URL"} == {""}
