"""The examples of docs/planners.md are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from data.database import app_engine
from tests.api.conftest import Credentials, served
from tests.feeds import INSIDE, YUZHONG, facility, load_facilities

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "planners.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, database_url: str) -> Iterator[str]:
    engine = app_engine(database_url)
    rows = [
        facility(f"{code}-{i}", lon, lat, state_at_import=("up", "down")[i < 3], load_kw=60_000)
        for code, (lon, lat) in INSIDE.items()
        for i in range(5)
    ]
    load_facilities(engine, rows)
    engine.dispose()
    with served(app) as url:
        wait = httpx.Client(headers={"X-API-Key": credentials["planner"]["api_key"]})
        assert wait.get(f"{url}/v1/situation", timeout=30).status_code == 200
        yield url


def test_the_python_example_runs(server: str, credentials: Credentials) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code[1]],
        env={**os.environ, "YUTU_URL": server, "YUTU_KEY": credentials["planner"]["api_key"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"{YUZHONG} +渝中区 .* 3\.0", done.stdout)
    assert "5 facilities within 5 km, 3 of them down" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_example_is_answered(
    server: str, credentials: Credentials, tmp_path: Path
) -> None:
    shell = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert shell is not None
    lines = shell[1].replace("\\\n", " ").replace("http://127.0.0.1:8000", server).splitlines()
    curls = [line for line in lines if line.startswith("curl")]
    assert len(curls) == 3
    key = credentials["planner"]["api_key"]
    answers = [
        subprocess.run(
            ["sh", "-ec", line], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "YUTU_KEY": key},
        ).stdout
        for line in curls
    ]  # fmt: skip
    # named as the page says
    written = re.search(r"`(yutu-\S+)-\d{8}T\d{6}\+0800\.gpkg`", PAGE)
    assert written is not None
    names = sorted(one.name for one in tmp_path.iterdir())
    assert [name.rsplit("-", 1)[0] for name in names] == [
        written[1],
        "yutu-situation-2districts-EPSG4326",
    ]
    assert (tmp_path / names[1]).read_text(encoding="utf-8-sig").count("\n") == 3
    assert '"numberMatched":15' in answers[2]
