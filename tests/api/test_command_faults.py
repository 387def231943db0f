"""Every command that needs a database says in one line what is wrong with the one it has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from typer.main import get_group
from typer.testing import CliRunner, Result

from api.cli import app
from api.commands.database_fault import unavailable
from data.database import libpq_url, owner_engine

ROOT = Path(__file__).resolve().parents[2]
FACILITIES = (
    "facility_id,kind,name,lon,lat,operator,network\nb1,base_station,B,106.5,29.5,cmcc,4g\n"
)
INCIDENTS = "id,plan,kind,lon,lat,observed_at\ni1,urban-2022,flood,106.5,29.5,2026-07-01T08:00Z\n"

#: Command → what it is called with in the test; {folder} has the two files.
CALLS = {
    "account add": "zz --role viewer",
    "account reset": "zz",
    "account lock": "zz",
    "account unlock": "zz",
    "account password": "zz --random",
    "account list": "",
    "account keys list": "zz",
    "account keys add": "zz --label x",
    "account keys rotate": "zz 1",
    "account keys revoke": "zz 1",
    "audit list": "",
    "audit head": "",
    "audit verify": "",
    "db check": "",
    "db retire": "--before 2026-01-01",
    "db verify": "",
    "demo load": "--facilities 2000",
    "demo play": "--at-once",
    "demo clear": "",
    "export": "facilities {folder}/out.csv",
    "import districts": "--default",
    "import facilities": "{folder}/facilities.csv --crs WGS84",
    "import incidents": "{folder}/incidents.csv --crs WGS84",
    "import zones": "--end x --valid-from 2025-11-06",
    "serve": "",
}
#: They make the schema, which an empty database is enough for.
MAKING = {"db migrate": "", "run": ""}
#: They need no database, one of their own, or the private one alone (tests/data/test_backup.py).
WITHOUT = {"assess", "bench", "db backup", "db restore"}


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command as it is typed."""
    for name in group.list_commands(None):
        found = group.commands[name]
        if hasattr(found, "commands"):
            yield from commands(found, (*before, name))
        else:
            yield " ".join((*before, name))


def test_every_command_is_looked_at_here() -> None:
    assert set(commands(get_group(app))) == set(CALLS) | set(MAKING) | WITHOUT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, for YUTU_VAR too; the process keeps its log and takes any port."""
    monkeypatch.setattr("api.logs.configure", lambda: None)
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("YUTU_DEMO", "1")
    monkeypatch.setenv("YUTU_VAR", str(tmp_path / "var"))
    (tmp_path / "facilities.csv").write_text(FACILITIES, encoding="utf-8")
    (tmp_path / "incidents.csv").write_text(INCIDENTS, encoding="utf-8")
    return tmp_path


def called(command: str, arguments: str, folder: Path) -> Result:
    words = [*command.split(), *arguments.format(folder=folder).split()]
    return CliRunner().invoke(app, words)


def said(result: Result) -> str:
    """The one line it ended with."""
    assert result.exit_code == 1, (result.exception, result.output)
    assert isinstance(result.exception, SystemExit)  # told, and not a traceback
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("yutu: ")
    for word in ("Traceback", "argon2", "SELECT", "INSERT", "parameters", "sqlalche.me", "psycopg"):
        assert word not in result.output
    return lines[0]


def test_a_database_without_the_schema_is_told_with_the_command_that_makes_it(
    folder: Path, bare_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", bare_database_url)
    for command, arguments in CALLS.items():
        line = said(called(command, arguments, folder))
        assert "schema" in line, (command, line)
        assert line.endswith("; run yutu db migrate"), (command, line)


def test_a_folder_without_a_database_is_told_and_gets_none(folder: Path) -> None:
    backup = {"db backup": "{folder}/backup", "db backup --stop": "{folder}/backup"}
    for command, arguments in (CALLS | backup).items():
        line = said(called(command, arguments, folder))
        var = folder / "var"
        assert line == f"yutu: there is no database in {var}; yutu run makes one", command
        assert not (var / "postgres").exists()
    assert not (folder / "backup").exists()


def test_a_database_that_cannot_be_reached_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://yutu:pa55word@127.0.0.1:1/yutu")
    for command, arguments in (CALLS | MAKING).items():
        line = said(called(command, arguments, folder))
        assert "the database cannot be reached" in line, (command, line)
        assert line.endswith("is YUTU_DATABASE_URL right?")
        assert "pa55word" not in line


@pytest.mark.parametrize("command", ["account add", "account list", "audit list", "db migrate"])
def test_a_user_who_may_not_is_told(
    folder: Path, bare_database_url: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = owner_engine(bare_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
    engine.dispose()
    sign = "&" if "?" in bare_database_url else "?"
    less = f"{bare_database_url}{sign}options=-c%20role=pg_monitor"
    monkeypatch.setenv("YUTU_DATABASE_URL", less)
    line = said(called(command, (CALLS | MAKING)[command], folder))
    assert "permission denied" in line
    assert line.endswith("YUTU_DATABASE_URL must name the owner of the database")


def test_a_schema_of_a_newer_version_is_told(
    folder: Path, bare_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = owner_engine(bare_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    engine.dispose()
    monkeypatch.setenv("YUTU_DATABASE_URL", bare_database_url)
    line = said(called("db migrate", "", folder))
    assert line.startswith("yutu: the schema cannot be migrated: ")
    assert "9999" in line


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "SELECT * FROM absent WHERE a = 'secret'",
            'the schema is not whole: relation "absent" does not exist; yutu db check names',
        ),
        ("SET ROLE absent", 'the schema is not whole: role "absent" does not exist; yutu db check'),
        ("SET lock_timeout = 'secret'", "refused it: InvalidParameterValue (22023)"),
        ("SET statement_timeout = 1; SELECT pg_sleep(1)", "is busy"),
        (
            "CREATE TEMP TABLE t (a text CHECK (a <> 'secret')); INSERT INTO t VALUES ('secret')",
            "the database refused it: CheckViolation (23514, table t, rule t_a_check)",
        ),
        ("SELECT 'secret'::int", "the database refused it: InvalidTextRepresentation (22P02)"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "the database cannot"),
    ],
)
def test_what_a_database_refuses_is_told_without_values(
    bare_database_url: str, statement: str, told: str
) -> None:
    engine = owner_engine(bare_database_url)
    try:
        with engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
            connection.execute(text(statement))
        with (
            psycopg.connect(libpq_url(bare_database_url)) as raw,
            pytest.raises(psycopg.Error) as plain,
        ):
            raw.execute(statement)
    finally:
        engine.dispose()
    for error in (caught.value, plain.value):
        line = str(unavailable(error))
        assert told in line
        assert "secret" not in line
        assert "\n" not in line
    assert unavailable(ValueError("of ours")) is None


def test_no_engine_repeats_parameters_in_its_errors() -> None:
    made = [
        (path.name, node)
        for folder in ("api", "data", "geo", "maps")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rsplit(".", 1)[-1]
        in {"create_engine", "create_async_engine", "engine_from_config"}
    ]
    assert sorted({name for name, _ in made}) == ["database.py", "env.py"]
    for name, node in made:
        options = {one.arg: ast.unparse(one.value) for one in node.keywords}
        assert options.get("hide_parameters") == "True", f"{name}:{node.lineno}"
