"""What is installed is what is in the tree, under `tagmill` and nowhere else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FOLDERS = ("config", "producer", "sandbox", "worker")
SHIPPED = {".py", ".lua", ".json", ".typed", ".toml"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel that is built from a copy, so that the tree stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist")]
    built = subprocess.run([*command, str(tree)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def source_files() -> set[str]:
    """Files that belong into the wheel, as they are named there."""
    return {
        f"tagmill/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }


def pinned(lock: str) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def test_the_packages_are_the_folders_of_the_tree(project: dict[str, Any]) -> None:
    folders = {path.parent.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    tree = {".".join(["tagmill", *folder.parts]) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == tree
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)


def test_the_wheel_holds_every_file_that_the_program_reads(wheel: list[str]) -> None:
    assert source_files() - set(wheel) == set()


@pytest.mark.parametrize("name", ["worker/row.schema.json", *(f"{folder}/py.typed" for folder in FOLDERS)])
def test_the_wheel_holds_what_others_rely_on(wheel: list[str], name: str) -> None:
    assert f"tagmill/{name}" in wheel


def test_nothing_but_tagmill_lands_in_site_packages(wheel: list[str], project: dict[str, Any]) -> None:
    version = project["project"]["version"]
    assert {name.split("/")[0] for name in wheel} == {"tagmill", f"tagmill-{version}.dist-info"}


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_the_lock_file_satisfies_the_project(project: dict[str, Any], lock: str) -> None:
    versions = pinned(lock)
    for text in project["project"]["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text


def test_the_development_lock_only_adds(project: dict[str, Any]) -> None:
    run, develop = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert {name: develop.get(name) for name in run} == run
    wanted = {canonicalize_name(Requirement(text).name) for text in project["dependency-groups"]["dev"]}
    assert wanted <= set(develop)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_has_a_hash_and_no_index_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        assert "--hash=sha256:" in block, block
    assert not re.search(r"^--|://", text, re.MULTILINE)
