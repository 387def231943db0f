"""Other people's programs read /ogc/ with a key: OWSLib, and GDAL's ogrinfo and ogr2ogr of Debian.

GDAL's tests are skipped where gdal-bin is not installed; `make test-interop` installs it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from owslib.ogcapi.features import Features
from sqlalchemy import Engine, text

from data.database import app_engine
from tests.api.conftest import Credentials, served
from tests.feeds import INSIDE, NANAN, facility, load_facilities

Key = Callable[[str], dict[str, str]]
COLLECTIONS = ("districts", "facilities", "incidents", "outages", "situation")
EACH = 700
FILTER = "state = 'down' AND load_kw > 100"

needs_gdal = pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="gdal-bin is not installed")


@pytest.fixture(scope="module")
def stored(database_url: str) -> int:
    rows = [
        facility(
            f"{code}-{i:04d}",
            lon + (i % 30) * 1e-4,
            lat + (i // 30) * 1e-4,
            name=f"朝天门{i}号",
            load_kw=i,
            state_at_import=("up", "down")[i % 3 == 0],
        )
        for code, (lon, lat) in INSIDE.items()
        for i in range(EACH)
    ]
    engine = app_engine(database_url)
    load_facilities(engine, rows)
    engine.dispose()
    return len(rows)


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, stored: int) -> Iterator[str]:
    with served(app) as url:
        yield url


@pytest.fixture(scope="module")
def counted(owner: Engine, stored: int, server: str) -> dict[str, int]:
    """What each collection holds, asked of the tables."""
    with owner.connect() as connection:
        return {
            "districts": connection.execute(
                text(
                    "SELECT count(*) FROM district d JOIN division_version v ON v.id = d.version_id"
                    " WHERE v.valid_to IS NULL"
                )
            ).scalar_one(),
            "facilities": connection.execute(text("SELECT count(*) FROM facility")).scalar_one(),
            "incidents": 0,
            "outages": 0,
            "situation": 37,
        }


# --- OWSLib -------------------------------------------------------------------------------------


def test_owslib_finds_and_pages_through_every_collection(
    server: str, key: Key, counted: dict[str, int]
) -> None:
    service = Features(f"{server}/ogc/", headers=key("planner"))
    assert set(COLLECTIONS) <= set(service.feature_collections())
    for name in COLLECTIONS:
        seen: set[str] = set()
        offset = 0
        while True:
            page = service.collection_items(name, limit=500, offset=offset)
            assert page["numberMatched"] == counted[name]
            seen |= {one["id"] for one in page["features"]}
            offset += page["numberReturned"]
            if not any(link["rel"] == "next" for link in page["links"]):
                break
        assert len(seen) == counted[name], name


def test_owslib_filters_by_box_and_by_cql(server: str, key: Key, owner: Engine) -> None:
    service = Features(f"{server}/ogc/", headers=key("planner"))
    lon, lat = INSIDE[NANAN]
    box = [lon - 1e-5, lat - 1e-5, lon + 0.00155, lat + 0.00055]
    with owner.connect() as connection:
        inside, chosen = connection.execute(
            text(
                "SELECT count(*) FILTER (WHERE ST_Intersects(geom, ST_MakeEnvelope(:w,:s,:e,:n,4326))),"
                " count(*) FILTER (WHERE s.state = 'down' AND f.load_kw > 100)"
                " FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
            ),
            dict(zip("wsen", box, strict=True)),
        ).one()
    assert inside > 10
    assert service.collection_items("facilities", bbox=box)["numberMatched"] == inside
    assert service.collection_items("facilities", filter=FILTER)["numberMatched"] == chosen
    queryables = service.collection_queryables("facilities")
    assert {"state", "kind", "load_kw"} <= set(queryables["properties"])


# --- GDAL ---------------------------------------------------------------------------------------


def _plain_environment() -> dict[str, str]:
    """Without what our own readers forbid GDAL in this process."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "OGR_"))}


def gdal(program: str, *arguments: str, key: dict[str, str]) -> str:
    done = subprocess.run(
        [program, *arguments],
        env={**_plain_environment(), "GDAL_HTTP_HEADERS": f"X-API-Key: {key['X-API-Key']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def features_told(answer: str) -> int:
    return int(re.findall(r"Feature Count: (\d+)", answer)[-1])


@needs_gdal
@pytest.mark.parametrize("name", COLLECTIONS)
def test_ogrinfo_counts_what_the_database_has(
    name: str, server: str, key: Key, counted: dict[str, int]
) -> None:
    told = gdal(
        "ogrinfo", "-so", "-al", f"OAPIF:{server}/ogc/collections/{name}", key=key("planner")
    )
    assert features_told(told) == counted[name]


@needs_gdal
@pytest.mark.parametrize("name", COLLECTIONS)
def test_ogr2ogr_pages_through_every_feature(
    name: str, server: str, key: Key, counted: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "out.gpkg"
    options = ("-oo", "PAGE_SIZE=300", "-f", "GPKG")
    gdal("ogr2ogr", *options, str(path), f"OAPIF:{server}/ogc", name, key=key("planner"))
    assert (
        features_told(gdal("ogrinfo", "-so", "-al", str(path), key=key("planner"))) == counted[name]
    )
    if name == "facilities":
        sql = "SELECT count(DISTINCT facility_id) AS n, min(name) AS name FROM facilities"
        told = gdal("ogrinfo", str(path), "-sql", sql, key=key("planner"))
        assert (
            f"n (Integer) = {counted[name]}" in told or f"n (Integer64) = {counted[name]}" in told
        )
        assert "朝天门" in told


@needs_gdal
def test_ogrinfo_filters_by_box_and_by_attribute(server: str, key: Key, owner: Engine) -> None:
    lon, lat = INSIDE[NANAN]
    box = [lon - 1e-5, lat - 1e-5, lon + 0.00155, lat + 0.00055]
    with owner.connect() as connection:
        inside, down = connection.execute(
            text(
                "SELECT count(*) FILTER (WHERE ST_Intersects(geom, ST_MakeEnvelope(:w,:s,:e,:n,4326))),"
                " count(*) FILTER (WHERE s.state = 'down')"
                " FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
            ),
            dict(zip("wsen", box, strict=True)),
        ).one()
    source = f"OAPIF:{server}/ogc/collections/facilities"
    told = gdal("ogrinfo", "-so", "-al", "-spat", *map(str, box), source, key=key("planner"))
    assert features_told(told) == inside
    told = gdal("ogrinfo", "-so", "-al", "-where", "state = 'down'", source, key=key("planner"))
    assert features_told(told) == down


@needs_gdal
def test_ogrinfo_opens_the_exports(
    client: object, server: str, key: Key, counted: dict[str, int], tmp_path: Path
) -> None:
    import httpx

    for suffix in ("geojson", "gpkg"):
        answer = httpx.get(
            f"{server}/v1/export/facilities.{suffix}?crs=EPSG:4490", headers=key("planner")
        )
        path = tmp_path / f"facilities.{suffix}"
        path.write_bytes(answer.content)
        told = gdal("ogrinfo", "-so", str(path), "facilities", key=key("planner"))
        assert features_told(told) == counted["facilities"]
        assert "4490" in told
        assert json.loads(answer.headers["yutu-manifest"])["crs"] == "CGCS2000"


@needs_gdal
def test_ogrinfo_without_a_key_gets_nothing(server: str, key: Key) -> None:
    done = subprocess.run(
        ["ogrinfo", f"OAPIF:{server}/ogc"],
        env=_plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "facilities" not in done.stdout
