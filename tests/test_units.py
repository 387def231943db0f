"""The systemd units: no root, one folder to write in, time to stop in order, commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from api.cli import app
from api.serving import GRACE_S

UNITS = Path(__file__).resolve().parents[1] / "docker" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
Unit = dict[str, dict[str, list[str]]]


def read(path: Path) -> Unit:
    """Section → name → every value given, in order; an empty one takes back those before it."""
    unit: Unit = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
            unit[section] = {}
            continue
        name, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch(r"[A-Z]\w+", name), line
        unit[section].setdefault(name, []).append(value)
    return unit


def one(unit: Unit, name: str, section: str = "Service") -> str:
    (value,) = unit[section][name]
    return value


@pytest.fixture(scope="module")
def service() -> Unit:
    return read(UNITS / "yutu.service")


def test_the_units_are_those_the_page_names() -> None:
    names = {path.name for path in UNITS.iterdir()}
    assert names == {
        *("yutu.service", "yutu-backup.service", "yutu-backup.timer"),
        *("yutu-files.service", "yutu-files.timer"),
    }
    for name in ("yutu-backup", "yutu-files"):
        timer = read(UNITS / f"{name}.timer")
        assert timer["Install"]["WantedBy"] == ["timers.target"]
        assert (UNITS / f"{name}.service").exists()


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_every_service_runs_a_command_that_exists_as_an_ordinary_user(path: Path) -> None:
    unit = read(path)
    assert one(unit, "User") not in {"root", "0", "postgres"}
    program, *words = one(unit, "ExecStart").split()
    assert program == f"{one(unit, 'WorkingDirectory')}/.venv/bin/yutu"
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    assert not getattr(command, "commands", {}), "a group is no command"
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_every_service_is_walled_in(path: Path) -> None:
    unit = read(path)
    assert one(unit, "NoNewPrivileges") == "yes"
    assert one(unit, "CapabilityBoundingSet") == ""
    assert one(unit, "ProtectSystem") == "strict"
    assert (
        one(unit, "ProtectHome") == one(unit, "PrivateTmp") == one(unit, "PrivateDevices") == "yes"
    )
    assert one(unit, "RestrictSUIDSGID") == one(unit, "LockPersonality") == "yes"
    assert unit["Service"]["SystemCallFilter"][0] == "@system-service"
    assert re.fullmatch(r"\d+[MG]", one(unit, "MemoryMax"))
    assert int(one(unit, "TasksMax")) <= 512
    writable = {
        folder.lstrip("-") for line in unit["Service"]["ReadWritePaths"] for folder in line.split()
    }
    assert writable == {"/var/lib/yutu", "/var/backups/yutu"}
    environment = dict(pair.split("=", 1) for pair in one(unit, "Environment").split())
    assert environment["YUTU_VAR"] == "/var/lib/yutu"
    assert not [name for name in environment if re.search("SECRET|PASSWORD|KEY", name)]


def test_it_is_started_again_when_it_dies_and_has_time_to_stop_in_order(service: Unit) -> None:
    assert one(service, "Restart") == "on-failure"
    postgresql_s = 60  # what Cluster.stop gives PostgreSQL before it is harsh
    assert int(one(service, "TimeoutStopSec")) >= GRACE_S + postgresql_s + 30
    assert one(service, "KillMode") == "mixed"  # the others are told by the first process
    assert one(service, "OOMPolicy") == "continue"


def test_the_child_process_that_reads_files_can_still_wall_itself_in(service: Unit) -> None:
    assert set(one(service, "RestrictNamespaces").split()) == {"user", "net"}
    allowed = " ".join(service["Service"]["SystemCallFilter"])
    for call in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        assert call in allowed


def test_the_backup_reaches_the_database_of_the_service(service: Unit) -> None:
    for name in ("yutu-backup.service", "yutu-files.service"):
        assert one(read(UNITS / name), "Environment") == one(service, "Environment")
        assert one(read(UNITS / name), "User") == one(service, "User")
    assert one(read(UNITS / "yutu-backup.service"), "Requisite", "Unit") == "yutu.service"
