"""The README's tour is run as it is printed, against the served application; both languages alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from api.app import create_app
from api.deps import Configuration
from data.accounts import first_run
from data.attachments import AttachmentSettings
from data.database import app_engine, owner_engine
from data.default_divisions import ensure_default_divisions
from data.demo import load_demo
from data.incidents import IncidentSettings
from data.parse_settings import ParseSettings
from data.request_limit import RequestLimitSettings
from data.settings import (
    AdmissionSettings,
    DatabaseSettings,
    DemoSettings,
    PathsSettings,
    SecuritySettings,
    ServerSettings,
    Settings,
    SituationSettings,
)
from data.sign_on_settings import SignOnSettings
from tests.api.conftest import served

ROOT = Path(__file__).resolve().parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
PAGES = (*READMES, *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("C*.md")))
SERVER = "http://127.0.0.1:8000"
CREDENTIALS = "$CHECKOUT/var/credentials.json"
SETTINGS: tuple[type[Settings], ...] = (
    PathsSettings,
    DatabaseSettings,
    ServerSettings,
    SecuritySettings,
    DemoSettings,
    SituationSettings,
    AdmissionSettings,
    AttachmentSettings,
    IncidentSettings,
    ParseSettings,
    SignOnSettings,
    RequestLimitSettings,
)
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \|", re.MULTILINE)
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
CITED = re.compile(r'docs/meanings\.md[,:]? ((?:"[A-Z][a-z ]+"(?:, | and )?)+)')
TOUR_MINUTES_MAX = 2
FACILITIES = 10_000


def tour(readme: Path) -> list[tuple[str, str]]:
    """The tour's steps: commands, and what is printed after them."""
    page = readme.read_text(encoding="utf-8")
    part = page.split("<!-- tour -->")[1].split("<!-- /tour -->")[0]
    blocks = BLOCK.findall(part)
    steps = []
    for number, (kind, content) in enumerate(blocks):
        if kind == "sh":
            follows = blocks[number + 1] if number + 1 < len(blocks) else ("sh", "")
            steps.append((content, follows[1] if follows[0] == "text" else ""))
    return steps


def as_pattern(printed: str) -> re.Pattern[str]:
    """The shown text, `…` standing for anything on its line, and alone on a line for any lines."""
    lines = []
    for line in printed.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(r"[^\n]*".join(re.escape(part) for part in line.split("…")) + r"\n")
    return re.compile("".join(lines))


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[Engine]:
    engine = owner_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def demonstration(database_url: str, owner: Engine) -> Iterator[str]:
    """A server with the districts and a synthetic inventory, as after `make run`; its URL."""
    first_run(owner, Path(os.environ["YUTU_VAR"]) / "credentials.json")
    ensure_default_divisions(owner)
    engine = app_engine(database_url, pool_size=2, statement_timeout_s=120)
    try:
        load_demo(engine, FACILITIES)
    finally:
        engine.dispose()
    with served(create_app(Configuration.load(database_url))) as url:
        deadline = time.monotonic() + 30
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < deadline, "no situation was built"
            time.sleep(0.1)
        yield url


def test_every_command_of_the_tour_does_what_the_readme_shows(
    demonstration: str, tmp_path: Path
) -> None:
    steps = tour(READMES[0])
    assert len(steps) >= 12
    script = "set -eu\n"
    for number, (commands, _) in enumerate(steps):
        script += f"echo '#{number}#'\n{commands}"
    credentials = str(Path(os.environ["YUTU_VAR"]) / "credentials.json")
    script = script.replace(SERVER, demonstration).replace(CREDENTIALS, credentials)
    script = script.replace('"$CHECKOUT/.venv/bin/yutu"', f"{sys.executable} -m api.cli")
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "temporary"
    checkout.mkdir()
    elsewhere.mkdir()
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env={
            **os.environ,
            "TMPDIR": str(elsewhere),
            "LC_ALL": "C.UTF-8",
            "PYTHONUTF8": "1",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=TOUR_MINUTES_MAX * 60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    printed = re.split(r"^#\d+#\n", ran.stdout, flags=re.MULTILINE)[1:]
    assert len(printed) == len(steps)
    assert list(checkout.iterdir()) == []  # the tour leaves nothing in the checkout
    for (commands, expected), got in zip(steps, printed, strict=True):
        assert as_pattern(expected).fullmatch(got), f"{commands}\nprinted:\n{got}"


def test_both_readmes_have_the_same_commands_in_the_same_order() -> None:
    english, chinese = (BLOCK.findall(page.read_text(encoding="utf-8")) for page in READMES)
    assert english == chinese
    assert len(english) >= 20


@pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)
def test_every_setting_is_in_the_table_with_its_default(readme: Path) -> None:
    rows = ROW.findall(readme.read_text(encoding="utf-8"))
    assert [name for name, _ in rows] == list(dict(rows))
    short = {"YUTU_PORT": "PORT", "YUTU_TLS": "TLS"}
    assert dict(rows) == {
        short.get(kind.variable(name), kind.variable(name)): default_of(name, value)
        for kind in SETTINGS
        for name, value in kind.load()
    }


def default_of(name: str, value: object) -> str:
    """A default as the table writes it."""
    if name == "runtime":
        return "chosen"
    if value in (None, False, ""):
        return "unset"
    if isinstance(value, Path):
        return "`var/` in the checkout"
    if isinstance(value, dict):
        return f"`{json.dumps({key: int(reach) for key, reach in value.items()})}`"
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_that_is_there(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_section_of_the_meanings_that_the_code_names_is_there() -> None:
    page = (ROOT / "docs" / "meanings.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^#+ (.+)$", page, re.MULTILINE))
    named = set()
    for folder in ("geo", "data", "maps", "api"):
        for module in (ROOT / folder).rglob("*.py"):
            said = " ".join(module.read_text(encoding="utf-8").split())
            for names in CITED.findall(said):
                named |= set(re.findall(r'"([^"]+)"', names))
    assert {"Returns", "Outages", "Integers", "Down"} <= named
    assert named <= sections
