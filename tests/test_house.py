"""The walls of the house: which folder may import which, and what may stand where."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import LONG

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("geo", "data", "maps", "api")
MAY_IMPORT = {
    "geo": {"geo"},
    "data": {"geo", "data"},
    "maps": {"geo", "maps"},
    "api": {"geo", "data", "maps", "api"},
}
TOP_LEVEL = {".ci", ".gitignore", "api", "data", "docker", "docs", "geo", "maps", "tests"} | {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "README.zh-CN.md"),
    *("SECURITY.md", "pyproject.toml", "uv.lock"),
}
IMPURE = {
    "alembic",
    "asyncpg",
    "fastapi",
    "folium",
    "geoalchemy2",
    "httpx",
    "psycopg",
    "requests",
} | {
    *("socket", "sqlalchemy", "starlette", "subprocess", "urllib", "uvicorn"),
}
LINES_MAX = 450
SHAPELESS = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")


def tracked() -> list[Path]:
    """Every file that git knows here, or would take; not what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def written(folder: str) -> list[Path]:
    """Its modules without the migrations, which are a history and not for reading daily."""
    past = ROOT / "data" / "migrations"
    return [one for one in modules(folder) if not one.is_relative_to(past)]


def modules(folder: str) -> list[Path]:
    return [one for one in tracked() if one.suffix == ".py" and one.is_relative_to(ROOT / folder)]


def imported(module: Path) -> dict[str, int]:
    """Top-level names a module imports anywhere, also inside functions, with a line for each."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0]: node.lineno for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = module.relative_to(ROOT).parts[0] if node.level else ""
            found[own or (node.module or "").split(".")[0]] = node.lineno
    return found


def test_the_walk_sees_the_project() -> None:
    assert ROOT / "geo" / "errors.py" in modules("geo")
    assert "geo" in imported(ROOT / "data" / "cluster.py")


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    barred = set(FOLDERS) - MAY_IMPORT[folder] | {"tests"}
    wrong = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules(folder)
        for name, line in imported(module).items()
        if name in barred
    ]
    assert not wrong


def test_geo_knows_no_database_no_network_and_no_page() -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules("geo")
        for name, line in imported(module).items()
        if name in IMPURE
    ]
    assert not wrong


def test_only_the_agreed_names_stand_at_the_top() -> None:
    assert {one.relative_to(ROOT).parts[0] for one in tracked()} <= TOP_LEVEL


def test_the_files_that_begin_first_are_there() -> None:
    assert not [name for name in LONG if not (ROOT / "tests" / f"{name}.py").is_file()]
    assert len(set(LONG)) == len(LONG)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_module_is_one_noun_of_bounded_length(folder: str) -> None:
    long = {
        str(module.relative_to(ROOT)): lines
        for module in written(folder)
        if (lines := len(module.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert not long
    assert not [str(module) for module in written(folder) if SHAPELESS.search(module.stem)]


def test_nothing_names_a_place_outside_the_project() -> None:
    """No machine's folders, no package registry's host; lock files may name their registry."""
    outside = re.compile(
        rb"\.\./shared\b|/work/(main|shared|\.library)|files\.pythonhosted|pypi\.org/simple"
        rb"|registry\.npm" + rb"js\.org|deb\." + rb"debian\.org"
    )
    wrong = [
        f"{one.relative_to(ROOT)}: {found.group().decode()}"
        for one in tracked()
        if one.name != "uv.lock" and not one.is_relative_to(ROOT / "tests")
        if (found := outside.search(one.read_bytes()))
    ]
    assert not wrong


def test_no_secret_or_data_folder_is_tracked() -> None:
    names = {one.relative_to(ROOT).as_posix() for one in tracked()}
    assert not [name for name in names if name.startswith(("var/", ".venv/", ".tools/"))]
    assert not [
        name for name in names if name.endswith((".env", ".pem", ".key", "credentials.json"))
    ]


def test_no_test_waits_for_a_function_inside_a_page() -> None:
    """After a first look that is not yet true Playwright polls by evaluating text in the page; our
    Content-Security-Policy allows no 'unsafe-eval', so such a wait ends the test by chance."""
    calls = [
        f"{module.relative_to(ROOT)}:{node.lineno}"
        for module in modules("tests")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "wait_for_function"
    ]
    assert not calls, (
        "wait_for_function polls by eval, which our pages' Content-Security-Policy refuses: use"
        f" expect(...) or wait_until of tests/browser/chromium.py in {', '.join(calls)}"
    )
