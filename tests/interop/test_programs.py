"""Programs people work with, of their own packages: `make test-interop` installs and runs these.

Deselected by default, since QGIS and LibreOffice are a gigabyte.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import openpyxl
import pandas as pd
import pytest
from fastapi import FastAPI

from data.database import app_engine
from tests.api.conftest import *  # noqa: F403 (its fixtures: a served application with accounts)
from tests.api.conftest import Credentials, served
from tests.feeds import INSIDE, YUZHONG, facility, load_facilities

pytestmark = pytest.mark.interop
QGIS_LAYER = Path(__file__).with_name("qgis_layer.py")
FORMULA = '=HYPERLINK("http://x.example","点我")'
EACH = 700


@pytest.fixture(scope="module")
def stored(database_url: str) -> int:
    rows = [
        facility(
            f"{code}-{i:04d}", lon + (i % 30) * 1e-4, lat + (i // 30) * 1e-4, name=f"朝天门{i}号"
        )
        for code, (lon, lat) in INSIDE.items()
        for i in range(EACH)
    ]
    rows.append(facility("FORMULA", *INSIDE[YUZHONG], name=FORMULA, load_kw=77))
    engine = app_engine(database_url)
    load_facilities(engine, rows)
    engine.dispose()
    return len(rows)


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, stored: int) -> Iterator[str]:
    with served(app) as url:
        yield url


def run(*command: str, **environment: str) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "OGR_", "PYTHON"))}
    done = subprocess.run(
        command,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_qgis_loads_every_collection_with_a_key(
    server: str, credentials: Credentials, stored: int, tmp_path: Path
) -> None:
    key = credentials["planner"]["api_key"]
    names = ("districts", "facilities", "incidents", "outages", "situation")
    told = json.loads(
        run(
            "/usr/bin/python3", str(QGIS_LAYER), f"{server}/ogc", key, *names,
            QT_QPA_PLATFORM="offscreen", HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path),
        ).splitlines()[-1]
    )  # fmt: skip
    print(json.dumps(told, ensure_ascii=False, indent=1))
    layers = told["layers"]
    assert all(one["valid"] for one in layers.values()), told
    assert layers["facilities"]["features"] == stored
    assert layers["facilities"]["inside"] == EACH + 1, "渝中 alone lies in the box"
    assert layers["districts"]["features"] == layers["situation"]["features"] == 37
    assert {one["crs"] for one in layers.values()} <= {"OGC:CRS84", "EPSG:4326", ""}


def test_libreoffice_opens_the_exports(
    server: str, credentials: Credentials, stored: int, tmp_path: Path
) -> None:
    key = {"X-API-Key": credentials["planner"]["api_key"]}
    for suffix in ("xlsx", "csv"):
        answer = httpx.get(f"{server}/v1/export/facilities.{suffix}?lang=zh", headers=key)
        (tmp_path / f"facilities.{suffix}").write_bytes(answer.content)
    office = (
        "soffice",
        "--headless",
        "--norestore",
        f"-env:UserInstallation=file://{tmp_path}/profile",
    )
    out = tmp_path / "out"
    # opened and written again: what it understood is what it writes
    told = run(
        *office,
        "--convert-to",
        "csv:Text - txt - csv (StarCalc):44,34,76,1",
        "--outdir",
        str(out),
        str(tmp_path / "facilities.xlsx"),
        HOME=str(tmp_path),
    )
    print(told)
    frame = pd.read_csv(out / "facilities.csv")
    assert len(frame) == stored
    assert list(frame.columns[:3]) == ["设施编号", "名称", "类型"]
    special = frame.set_index("设施编号").loc["FORMULA"]
    assert special["名称"] == f"'{FORMULA}"
    assert special["负荷（千瓦）"] == 77
    told = run(
        *office,
        "--convert-to",
        "xlsx",
        "--infilter=Text - txt - csv (StarCalc):44,34,76,1",
        "--outdir",
        str(out),
        str(tmp_path / "facilities.csv"),
        HOME=str(tmp_path),
    )
    print(told)
    sheet = openpyxl.load_workbook(out / "facilities.xlsx").worksheets[0]
    assert sheet.max_row == stored + 1
    assert not [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
