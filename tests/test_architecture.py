"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("config", "producer", "sandbox", "worker")
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted(path for path in (ROOT / "worker").rglob("*.lua"))
BOTTOM_ROW = [ROOT / "worker" / f"{name}.py" for name in ("models", "errors", "rules", "rate")]
OTHER_TESTS = [path for path in TESTS if path != Path(__file__)]

MAX_FILE_LINES = 400
MAX_BODY_LINES = 50
MEDIAN_FUNCTION_LINES = 10
FORBIDDEN_NAMES = re.compile(r"(?:^|_)(?:utils?|helpers?|managers?|misc)(?:$|_)|Manager$|Helper$")
#: Spelled so that this file does not hold what it looks for.
NOT_IN_FILES = re.compile(
    "|".join(
        ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/op" + "t/", r"py" + r"pi\.org", "python" + "hosted"]
    )
)
#: What puts the parts together; all else takes plain values.
READERS_OF_SETTINGS = re.compile(
    r"config/\w+\.py|producer/cli/\w+\.py|producer/(?:launch|listen|passes|planned|preparation|embedded|reach|steering)\.py"
    r"|producer/schedules/(?:beat|now|schedule|starting)\.py"
    r"|worker/(?:assembly|app|checkup|serve|account|webhooks/serve)\.py"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without decorators."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def body_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines below the signature: the options of a command are a table, not code."""
    return (function.end_lineno or function.lineno) - function.body[0].lineno + 1


@cache
def imports(path: Path) -> list[str]:
    """Full names of imported modules; a relative import keeps its dots."""
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


def offenders(paths: Iterable[Path], found: Callable[[Path], list[str]]) -> list[str]:
    """What is wrong, with the file it is in."""
    return [f"{name_of(path)}: {wrong}" for path in paths for wrong in found(path)]


def project_files() -> list[Path]:
    """What is or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_most_functions_are_small() -> None:
    lengths = [length(function) for path in CODE for function in functions(path)]
    assert statistics.median(lengths) < MEDIAN_FUNCTION_LINES


def test_no_function_is_long() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name}: {body_length(function)} lines"
        for path in CODE
        for function in functions(path)
        if body_length(function) > MAX_BODY_LINES
    ]
    assert long == []


def test_a_file_has_one_subject() -> None:
    assert [name_of(path) for path in CODE if len(path.read_text().splitlines()) > MAX_FILE_LINES] == []


def test_names_say_what_a_thing_is() -> None:
    def wrong(path: Path) -> list[str]:
        defined = [
            node.name
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        return [name for name in [path.stem, *defined] if FORBIDDEN_NAMES.search(name)]

    assert offenders([*CODE, *TESTS], wrong) == []


def test_imports_are_absolute_and_through_tagmill() -> None:
    def wrong(path: Path) -> list[str]:
        return [name for name in imports(path) if name.startswith(".") or name.split(".")[0] in PACKAGES]

    assert offenders([*CODE, *TESTS], wrong) == []


@pytest.mark.parametrize("path", [path for path in BOTTOM_ROW if path.exists()], ids=name_of)
def test_the_bottom_row_needs_the_standard_library_only(path: Path) -> None:
    own = {f"tagmill.worker.{row.stem}" for row in BOTTOM_ROW}
    others = set(imports(path)) - own
    assert [name for name in others if name.split(".")[0] not in sys.stdlib_module_names] == []


def test_packages_are_only_places() -> None:
    packages = [path for path in CODE if path.name == "__init__.py"]
    assert [name_of(path) for path in packages if path.read_text().strip()] == []


def test_only_the_doors_read_settings() -> None:
    readers = [name_of(path) for path in CODE if "tagmill.config.settings" in imports(path)]
    assert [name for name in readers if not READERS_OF_SETTINGS.fullmatch(name)] == []


def test_key_names_are_built_in_one_module() -> None:
    allowed = {"worker/state/keys.py", "config/celery.py"}  # kombu is told the prefix and prepends it itself
    builders = {
        name_of(path)
        for path in CODE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FormattedValue)
        and re.search(r"(?:redis|key)_prefix$", ast.unparse(node.value))
    }
    assert builders <= allowed


def test_a_redis_script_is_given_every_key() -> None:
    own_key = re.compile(r'redis\.p?call\(\s*"\w+",\s*["\']\S*')
    assert offenders(SCRIPTS, lambda path: own_key.findall(path.read_text())) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_redis_script_opens_with_its_purpose_and_its_keys(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:12] if line.startswith("--")]
    assert len(head[0]) > len("-- KEYS[1]")
    assert not head[0].startswith("-- KEYS")
    assert any("KEYS[1]" in line for line in head)


def test_every_exception_to_a_rule_gives_its_reason() -> None:
    bare = re.compile(
        r"# noqa(?!: [A-Z0-9]+(?:, ?[A-Z0-9]+)* - \S)|# type: ignore(?!\[[a-z-, ]+\] {1,2}# \S)"
    )

    def wrong(path: Path) -> list[str]:
        return [line.strip() for line in path.read_text().splitlines() if bare.search(line)]

    assert offenders([*CODE, *OTHER_TESTS], wrong) == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    left_out = re.compile(r"pytest\.(?:skip|xfail|importorskip)|mark\.(?:skip|skipif|xfail)\b")
    assert offenders(OTHER_TESTS, lambda path: left_out.findall(path.read_text())) == []


def test_parts_are_real_or_fakes_but_never_mocks() -> None:
    def wrong(path: Path) -> list[str]:
        return [name for name in imports(path) if name.startswith("unittest")]

    assert offenders(TESTS, wrong) == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in project_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match}" for match in NOT_IN_FILES.findall(text)]
    assert found == []
