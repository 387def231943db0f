"""Files made to do harm, at the doors of facilities and of returns: a clear refusal, a server that stays small
and goes on answering.

A few of each kind by default; all of them, at both doors, with `pytest -m bench` of this file.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.accounts import first_run
from data.database import owner_engine
from tests.api.conftest import assert_problem
from tests.api.test_kill_writers import Server
from tests.data.incident_files.hostile import HARMLESS, HOSTILE, ROWS

#: What the server's resident memory may grow by, all its processes together.
GROWTH_MAX_KIB = 256 * 1000**2 // 1024
SECONDS_MAX = 60.0  # of which four of computing; other tests run beside this one
BAD_ROWS = 60_000


def many_bad_rows() -> bytes:
    """Small to send, and every row of it is wrong in every field."""
    return b"facility_id,lon,lat,load_kw,customers\n" + b",x,y,z,-1\n" * BAD_ROWS


FACILITIES: dict[str, Callable[[], bytes]] = {**HOSTILE, "bad_rows.csv": many_bad_rows}
#: What is sent by default, and a word of what each is told.
SOME_FACILITIES = {
    "vrt.geojson": "XML of another kind", "xxe.kml": "XML with a document type", "bomb.kmz": "unpacks to more",
    "strings.xlsx": "could not be read", "columns.csv": "more than 500 columns", "endless.gpkg": "of computing",
    "lying.zip": "", "bad_rows.csv": "more than 50000 faults",
}  # fmt: skip
SOME_RETURNS = {"strings.xlsx": "could not be read", "columns.csv": "memory", "nul.csv": "NUL"}


@dataclass
class Door:
    """The server, its processes' memory, and how long `/health` took meanwhile."""

    server: Server
    accounts: dict[str, dict[str, Any]]
    waits: list[float] = field(default_factory=list)

    def resident_kib(self, which: str) -> int:
        told = 0
        for pid in self.server.workers():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(which):
                    told += int(line.split()[1])
        return told

    def send(self, path: str, role: str, name: str, body: bytes, **form: str) -> httpx.Response:
        kind = "text/csv" if path.endswith("returns") else "application/octet-stream"
        return httpx.post(
            self.server.url + path,
            files={"file": (name, body, kind)},
            data=form,
            headers={"X-API-Key": self.accounts[role]["api_key"], "Accept-Language": "en"},
            timeout=SECONDS_MAX * 2,
        )


@pytest.fixture(scope="module")
def door(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    owner = owner_engine(database_url)
    assert first_run(owner, folder / "credentials.json")
    owner.dispose()
    told = json.loads((folder / "credentials.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YUTU_PARSE_CPU_SECONDS", "4")
        server = Server(database_url, folder / "server.log")
    server.start()
    try:
        with contextlib.suppress(AssertionError):  # on a machine that is busy with other tests
            server.wait_ready()
        server.wait_ready()
        found = Door(server, told)
        line = b"facility_id,lon,lat\nA,106.5516,29.563\n"
        warm = found.send(
            "/v1/facilities/import", "planner", "a.csv", line, kind="shelter", crs="WGS84"
        )
        assert warm.status_code == 200, warm.text
        yield found
    finally:
        server.kill()


def refuse_all(door: Door, path: str, role: str, files: Mapping[str, str]) -> None:
    """Send each of `files` (name → a word of its refusal); what must hold of every answer, and of
    the server meanwhile."""
    done = threading.Event()
    waits: list[float] = []

    def ask() -> None:
        with httpx.Client(base_url=door.server.url, timeout=30) as client:
            while not done.is_set():
                begun = time.monotonic()
                assert client.get("/health").status_code == 200
                waits.append(time.monotonic() - begun)
                time.sleep(0.05)

    before = door.resident_kib("VmRSS:")
    asking = threading.Thread(target=ask)
    asking.start()
    slowest = 0.0
    try:
        for name, word in files.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                body = FACILITIES[name]()
            begun = time.monotonic()
            answer = door.send(path, role, name, body, kind="shelter", crs="WGS84")
            slowest = max(slowest, time.monotonic() - begun)
            assert answer.status_code in (413, 422), (name, answer.status_code, answer.text[:300])
            told = assert_problem(answer, answer.status_code)
            said = json.dumps([told.get("detail"), told.get("errors"), told.get("rejected")])
            assert len(said) > 20, name
            assert word in said, (name, said[:300])
            assert "root:" not in answer.text
            assert "Traceback" not in answer.text
    finally:
        done.set()
        asking.join(10)
    grown = door.resident_kib("VmHWM:") - before
    waits.sort()
    print(
        f"{path}: {len(files)} files, slowest {slowest:.1f} s, memory +{grown // 1024} MiB, /health p50"
        f" {waits[len(waits) // 2] * 1000:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1000:.0f} ms"
    )
    assert grown < GROWTH_MAX_KIB
    assert slowest < SECONDS_MAX
    assert waits[len(waits) * 99 // 100] < 1.0


def test_files_of_facilities_made_to_do_harm_are_refused_and_harm_nothing(door: Door) -> None:
    refuse_all(door, "/v1/facilities/import", "planner", SOME_FACILITIES)


def test_tables_of_returns_made_to_do_harm_are_refused_and_harm_nothing(door: Door) -> None:
    refuse_all(door, "/v1/returns", "utility", SOME_RETURNS)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("path", "role"), [("/v1/facilities/import", "planner"), ("/v1/returns", "utility")]
)
def test_every_such_file_is_refused_at_every_door(door: Door, path: str, role: str) -> None:
    assert {*HARMLESS, *ROWS} < set(FACILITIES)  # for incidents some rows hold; none is a facility
    refuse_all(door, path, role, dict.fromkeys(FACILITIES, ""))


def test_a_table_may_be_sent_after_all_that(door: Door) -> None:
    head = "return_id,operator,kind,as_of,adcode,total,down\n"
    table = f"{head}R1,telecom,base_station,2026-11-21T08:10:00+08:00,500103,12,3\n"
    answer = door.send("/v1/returns", "utility", "r.csv", table.encode())
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
