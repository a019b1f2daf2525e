"""The documentation names what exists, and all of it."""

from __future__ import annotations

import functools
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tagmill.config.settings import Settings
from tagmill.producer.exit_codes import ExitCode

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
SETTINGS = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}
Command = Any  #: click's; typer keeps its own copy of click and publishes no type for it
#: Options that every command has and nobody looks up.
EVERYWHERE = {"--help", "--install-completion", "--show-completion"}


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def commands() -> dict[str, Command]:
    """Leaf commands by their full name, such as `tagmill run`."""
    root = typer.main.get_command(importlib.import_module("tagmill.producer.cli.main").app)
    return dict(leaves("tagmill", root))


def leaves(name: str, command: Command) -> Iterator[tuple[str, Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, inner in children.items():
        if not inner.hidden:
            yield from leaves(f"{name} {child}", inner)


def options(command: Command) -> set[str]:
    """Long options that help shows."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return {
        name
        for parameter in shown
        for name in [*parameter.opts, *parameter.secondary_opts]
        if name.startswith("--")
    } - EVERYWHERE


def shell_lines(page: Path) -> Iterator[str]:
    """Commands in shell blocks, without comments; a line that ends in a backslash goes on."""
    for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*|^#.*", "", line).strip().removeprefix("$ ")
            if command:
                yield re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)


def headings(page: Path) -> set[str]:
    """Anchors as forges build them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_setting_is_documented_and_no_other() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert set(re.findall(r"^\| `(TAGMILL_\w+)`", text, re.MULTILINE)) == SETTINGS


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_name_only_settings_that_exist(page: Path) -> None:
    named = set(re.findall(r"TAGMILL_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert {name for name in named if not name.startswith("TAGMILL_TEST_")} <= SETTINGS


def test_defaults_in_the_table_are_the_defaults() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    stated = dict(re.findall(r"^\| `TAGMILL_(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    for name, value in stated.items():
        default = Settings.model_fields[name.lower()].default
        if default is not None:
            assert value == str(default).lower().removesuffix(".0"), name


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in commands() if f"`{name}" not in text] == []


def test_every_command_and_option_is_documented_and_no_other() -> None:
    sections = re.split(r"^## `(.+)`$", (ROOT / "docs/commands.md").read_text(), flags=re.MULTILINE)[1:]
    documented = {
        name: set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert documented == {name: options(command) for name, command in commands().items()}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_in_shell_blocks_exist(page: Path) -> None:
    for line in shell_lines(page):
        words = line.split()
        if words[0] == "tagmill":
            name = next(
                (" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in commands()), ""
            )
            assert name, line
            given = {word.split("=")[0] for word in words if word.startswith("--")}
            assert given - EVERYWHERE <= options(commands()[name]), line


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_in_shell_blocks_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in shell_lines(page) if line.startswith("make ")}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_internal_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in headings(linked), target


def test_make_lists_its_targets() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - make is on PATH
    assert {"make demo", "make test", "make check"} <= {
        " ".join(line.split()[:2]) for line in shown.splitlines()
    }


def test_exit_codes_in_the_readme_are_those_of_the_program() -> None:
    stated = set(map(int, re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)))
    assert {0, 1, 2, 130} <= stated <= set(ExitCode)


def test_every_photograph_is_attributed() -> None:
    text = (ROOT / "examples/ATTRIBUTION.md").read_text()
    photos = {path for path in (ROOT / "examples/photos").rglob("*") if path.suffix in {".jpg", ".png"}}
    assert {f"photos/{path.relative_to(ROOT / 'examples/photos')}" for path in photos} == set(
        re.findall(r"`(photos/[^`]+)`", text)
    )
