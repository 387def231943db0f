"""The container files say what SECURITY.md promises, and agree with the Makefile's package list."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def test_the_database_publishes_no_port_and_sits_on_an_inner_network(
    compose: dict[str, Any],
) -> None:
    database = compose["services"]["db"]
    assert "ports" not in database
    assert database["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True


def test_there_is_no_default_secret(compose: dict[str, Any]) -> None:
    assert set(compose["secrets"]) == {
        *("database_password", "signing_secret", "tls_certificate", "tls_key")
    }
    for secret in compose["secrets"].values():
        assert re.fullmatch(r"\$\{YUTU_\w+_FILE:\?[^}]+\}", secret["file"])
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", name):
                assert name.endswith("_FILE")
                assert str(value).startswith("/run/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), "a password in a URL"


def test_the_api_waits_for_a_healthy_database(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["api"]["depends_on"]["db"]["condition"] == "service_healthy"
    assert services["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_containers_can_gain_no_rights(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
    for name in ("api", "proxy"):
        assert compose["services"][name]["read_only"] is True
        assert "cap_add" not in compose["services"][name]


def test_every_image_is_pinned_to_a_version(compose: dict[str, Any]) -> None:
    services = compose["services"]
    images = [
        services["db"]["image"],
        services["proxy"]["image"],
        *(one.split()[0] for one in instructions("FROM")),
    ]
    for image in images:
        assert re.search(r":\d", image), image


def test_the_database_container_weakens_no_durability(compose: dict[str, Any]) -> None:
    said = " ".join(compose["services"]["db"]["command"])
    assert not re.search("fsync|full_page_writes|synchronous_commit", said)


def test_the_image_runs_as_an_ordinary_user() -> None:
    assert instructions("USER") == ["10001"]
    last_stage = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert "USER 10001" in last_stage
    assert last_stage.index("USER 10001") < last_stage.index("ENTRYPOINT")


def test_image_and_makefile_share_the_package_list_and_the_commands() -> None:
    commands = " ".join(instructions("RUN"))
    assert "apt-get" not in commands
    assert "docker/install-packages base" in commands
    assert "make setup" in commands
    assert "docker/install-packages" in MAKEFILE
    assert "uv sync --quiet --frozen" in MAKEFILE
    assert "npm ci --ignore-scripts" in MAKEFILE


def test_everything_the_image_copies_reaches_its_builder() -> None:
    ignore = (ROOT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    for copy in instructions("COPY"):
        *sources, _ = copy.split()
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == one or source.startswith(f"{one}/") for one in allowed), source


def install(*sections: str, installed: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run docker/install-packages where only `installed` is installed and apt only says what it got."""
    fakes = {
        "dpkg-query": f'for last; do :; done; case " {installed} " in *" $last "*) printf installed;; *) exit 1;; esac',
        "apt-get": f'echo "$@" >> {tmp_path}/asked',
        "id": "echo 0",
        "tee": "cat",
        "mkdir": ":",
        "rm": ":",
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        [ROOT / "docker" / "install-packages", *sections],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_what_is_missing_of_the_named_sections_is_installed(tmp_path: Path) -> None:
    done = install("base", "database", installed="python3 ca-certificates", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].endswith("update")
    assert asked[1].endswith(
        "install --no-install-recommends fonts-noto-cjk postgresql-15 postgresql-15-postgis-3"
    )


def test_apt_is_left_alone_when_nothing_is_missing(tmp_path: Path) -> None:
    assert install("test", installed="chromium", tmp_path=tmp_path).returncode == 0
    assert not (tmp_path / "asked").exists()


def test_the_installers_are_pinned_by_hash() -> None:
    pins = (ROOT / "docker" / "tools.txt").read_text(encoding="utf-8")
    for requirement in re.findall(r"^([a-z][\w-]+)(.*)$", pins, re.MULTILINE):
        assert re.match(r"==\d", requirement[1])
    assert pins.count("--hash=sha256:") >= 3
    assert "--require-hashes" in MAKEFILE
