"""Files made to do harm end in a clear error within seconds, in less than 256 MB, and touch nothing.

A launcher process small enough not to hide the child's figure reads them one after another; resident
memory is the maximum the kernel accounts to its children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.data.incident_files.hostile import HARMLESS, HOSTILE, ROWS, write_hostile

ROOT = Path(__file__).resolve().parents[2]
RESIDENT_MAX_KIB = 256 * 1000**2 // 1024
SECONDS_MAX = 10.0
LAUNCHER = """
import json, resource, sys, time
from pathlib import Path
from data.readers.incident_file import parse_incident_file
from data.sandbox import Limits
from geo.errors import YutuError
for path in map(Path, sys.argv[1:]):
    begun = time.monotonic()
    told = {"name": path.name}
    try:
        file = parse_incident_file(path, name=path.name, crs=None, plan="special-equipment-2023",
                                   kind="elevator", owner="x", limits=Limits(seconds=30, cpu_seconds=4))
        told["rows"] = [[row.body is not None, [str(f) for f in row.faults]] for row in file.rows]
    except Exception as error:
        told["error"] = type(error).__name__
        told["refused"] = str(error)
        told["ours"] = isinstance(error, YutuError)
    told["seconds"] = time.monotonic() - begun
    told["resident_kib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    told["own_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_hostile(folder)
    ran = subprocess.run(
        # A shell between: the kernel counts a parent's memory to a child until that runs a program.
        [
            "sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            sys.executable,
            "-c",
            LAUNCHER,
            *map(str, paths.values()),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(told) == len(HOSTILE)
    return {one["name"]: one for one in told}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_as_what_it_is(outcomes, name, record_property):
    record_property("hostile files", {"tried": 1})
    told = outcomes[name]
    assert told["seconds"] < SECONDS_MAX
    assert told["resident_kib"] < RESIDENT_MAX_KIB
    assert told["own_kib"] < RESIDENT_MAX_KIB  # the parent takes no harm either
    if name in HARMLESS:
        return
    if name in ROWS:
        refused = [faults for taken, faults in told["rows"] if not taken]
        assert refused
        assert all(refused)
        return
    assert told.get("ours"), told
    assert len(told["refused"]) > 10
    assert "root:" not in told["refused"]


@pytest.mark.parametrize(
    ("name", "word"),
    [("vrt.geojson", "OGRVRTDataSource"), ("xxe.kml", "document type or an entity"),
     ("laughs_inside.kmz", "document type or an entity"), ("bomb.kmz", "unpacks"), ("lying.kmz", "damaged"),
     ("up.kmz", "leads out"), ("absolute.kmz", "leads out"), ("symlink.kmz", "link"), ("twice.kmz", "twice"),
     ("png.jpg", "PNG"), ("900mp.jpg", "30000 × 30000"), ("zip_behind.jpg", "archive hidden behind"),
     ("pdf_inside.jpg", "at once"), ("both.zip", "at once"), ("letter.csv", "PDF"), ("page.csv", "web page"),
     ("deep.geojson", "not valid JSON"), ("nan.geojson", "not valid JSON"), ("many_rows.csv", "more memory"), ("many_placemarks.kml", "more than 10000 rows"),
     ("deep.kml", "levels deep"), ("endless.gpkg", "computing"), ("nul.csv", "binary"), ("list.json", "JSON list")],
)  # fmt: skip
def test_the_refusal_says_why(outcomes, name, word):
    assert word in outcomes[name]["refused"]


@pytest.mark.parametrize("name", [n for n in HOSTILE if n.startswith("vrt") or n == "program.csv"])
def test_what_was_expected_instead_is_said(outcomes, name):
    said = outcomes[name]["refused"]
    assert "expected is GeoJSON" in said or "inside" in name
