"""Uploads that break off at each tenth, and files made to do harm, at every door for files."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np

from data.parse_settings import ParseSettings
from tests.api.test_feeds_incidents import incident
from tests.api.test_kill_imports import file_of
from tests.data.incident_files.hostile import HARMLESS, HOSTILE, write_hostile
from tests.data.stored import at
from tests.torture.site import Site
from tests.torture.torture import Torture, row

CHUNK = 8192
SENDS_WITHIN_S = 20.0
FILE_WITHIN_S = 10.0
THREADS = 4
CHILD_RESIDENT_MAX_MIB = 256


@dataclass(frozen=True)
class Door:
    """Where a body goes, who sends it, what table then has how many rows more."""

    path: str
    who: str
    content_type: str
    body: bytes
    table: str
    rows: int


def form(name: str, body: bytes, **fields: str) -> bytes:
    """multipart/form-data with the boundary `b`."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return b"".join([*parts, head.encode(), body, b"\r\n--b--\r\n"])


MULTIPART = "multipart/form-data; boundary=b"


def _doors(site: Site, rng: np.random.Generator) -> list[Door]:
    incidents, ids = file_of(rng, "电梯", 400)
    head = "facility_id,name,kind,operator,lon,lat\n"
    prefix = uuid4().hex[:6]
    facilities = head + "".join(
        f"T{prefix}-{i},T{i},substation,grid,{106.4 + i / 9000:.5f},29.55\n" for i in range(400)
    )
    events = "\n".join(
        json.dumps(
            {
                "event_id": f"cut-{prefix}-{i}",
                "facility_id": f"F{i}",
                "state": "down",
                "observed_at": at(i % 600),
            }
        )
        for i in range(400)
    )
    body = incident()
    place = f"/v1/incidents/{body['incident_id']}"
    site.ask("POST", "/v1/incidents", "commander", json=body)
    photo = form("p.jpg", picture(), attachment_id=str(uuid4()))
    return [
        Door(
            "/v1/incidents/import",
            "commander",
            MULTIPART,
            form("rows.csv", incidents),
            "incident",
            len(ids),
        ),
        Door(
            "/v1/facilities/import",
            "planner",
            MULTIPART,
            form("rows.csv", facilities.encode(), crs="WGS84"),
            "facility",
            400,
        ),
        Door("/v1/status", "utility", "application/x-ndjson", events.encode(), "status_log", 400),
        Door(f"{place}/attachments", "commander", MULTIPART, photo, "attachment", 1),
    ]


def picture() -> bytes:
    import io

    from PIL import Image

    noise = np.random.default_rng(3).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, "JPEG", quality=95)
    return sink.getvalue()


def _send_part(site: Site, door: Door, size: int, chunked: bool, reset: bool) -> bytes:
    """So many bytes of the whole, then nothing more; what came back."""
    parts = urlsplit(site.server.url)
    head = f"POST {door.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {door.content_type}\r\n"
    head += f"X-API-Key: {site.keys[door.who]['X-API-Key']}\r\n"
    cut = door.body[:size]
    if chunked:
        head += "Transfer-Encoding: chunked\r\n\r\n"
        cut = b"".join(
            b"%x\r\n%s\r\n" % (len(one), one)
            for one in (cut[i : i + CHUNK] for i in range(0, len(cut), CHUNK))
        )
    else:
        head += f"Content-Length: {len(door.body)}\r\n\r\n"
    with socket.create_connection((str(parts.hostname), parts.port or 0), 20) as link:
        link.sendall(head.encode() + cut)
        if reset:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return b""
        link.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            return link.recv(65536)
    return b""


@row("half-upload", "half an upload: cut at each 10 %, length said or not, closed or reset")
def half_upload(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    doors = _doors(site, torture.rng)
    before = {door.table: site.sql(f"SELECT count(*) FROM {door.table}") for door in doors}
    sizes = [len(door.body) for door in doors]
    for door in doors:
        for tenth in range(1, 10) if torture.scale >= 0.5 else (2, 7):
            for chunked in (False, True):
                for reset in (False, True):
                    told = _send_part(site, door, len(door.body) * tenth // 10, chunked, reset)
                    figures.count()
                    figures.five_hundreds += b"HTTP/1.1 500" in told
                    figures.check(b"HTTP/1.1 2" not in told[:13], f"{door.path} took a part")
    deadline = time.monotonic() + 20
    while _left(site) and time.monotonic() < deadline:
        time.sleep(0.1)
    figures.check(not _left(site), f"left behind: {_left(site)[:5]}")
    for door in doors:
        more = site.sql(f"SELECT count(*) FROM {door.table}") - before[door.table]
        figures.check(more == 0, f"{door.path}: {more} rows of parts")
    for door in doors:
        headers = {"Content-Type": door.content_type}
        answer = site.ask("POST", door.path, door.who, content=door.body, headers=headers)
        figures.check(answer.is_success, f"the whole: {answer.status_code} {answer.text[:200]}")
        more = site.sql(f"SELECT count(*) FROM {door.table}") - before[door.table]
        figures.check(more == door.rows, f"{door.path}: {more} of {door.rows} rows of the whole")
    log = site.log.read_text(encoding="utf-8", errors="replace")
    figures.check("Traceback" not in log, "a traceback in the log")
    figures.own |= {"doors": len(doors), "bytes": f"{min(sizes):,}-{max(sizes):,}"}


def _left(site: Site) -> list[str]:
    """What uploads left in the folder for files in passing."""
    return [one.name for one in site.scratch.iterdir() if one.name.startswith("yutu-import")]


class Memory(threading.Thread):
    """The most resident memory of a parsing child, and of a worker, in MiB."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self._site = site
        self.ended = threading.Event()
        self.child_mib = self.worker_mib = 0.0

    def run(self) -> None:
        while not self.ended.wait(0.02):
            for worker in self._site.server.workers():
                self.worker_mib = max(self.worker_mib, _resident_mib(worker))
                for child in _children(worker):
                    self.child_mib = max(self.child_mib, _resident_mib(child))


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(one) for one in (task / "children").read_text().split()]
    return [one for one in found if _parses(one)]


def _parses(pid: int) -> bool:
    """Whether it is a parsing child, and no longer the worker's copy that becomes one."""
    with contextlib.suppress(OSError):
        return b"data.sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _resident_mib(pid: int) -> float:
    """Of its own, without what it shares with the process it was forked from."""
    with contextlib.suppress(OSError, ValueError):
        shared = resident = 0
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                resident = int(line.split()[1])
            elif line.startswith("RssShmem:"):
                shared = int(line.split()[1])
        return (resident + shared) / 1024
    return 0.0


@row("files", "hostile files: 64 made to do harm, at every door for files")
def files(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    folder = site.folder / "hostile"
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_hostile(folder)
    body = incident()
    site.ask("POST", "/v1/incidents", "commander", json=body)
    doors = {
        "/v1/incidents/import": "commander",
        "/v1/facilities/import": "planner",
        "/v1/returns": "utility",
        f"/v1/incidents/{body['incident_id']}/attachments": "commander",
    }
    names = list(HOSTILE)[:: 1 if torture.scale >= 0.5 else 12]
    rows_of_tables = max(ParseSettings().inventory_limits(paths[one]).memory_mib for one in names)
    most_mib = dict.fromkeys(doors, CHILD_RESIDENT_MAX_MIB)
    most_mib |= dict.fromkeys(("/v1/facilities/import", "/v1/returns"), rows_of_tables)
    facilities = site.sql("SELECT count(*) FROM facility")
    worker_mib = 0.0
    slowest = [0.0]
    statuses: Counter[bool] = Counter()

    def send(name: str, path: str, who: str) -> None:
        said = {"attachment_id": str(uuid4())} if "attachments" in path else {}
        said |= {"crs": "WGS84"} if path.endswith("/import") else {}
        content = paths[name].read_bytes()
        began = time.monotonic()
        answer = site.ask("POST", path, who, files={"file": (name, content)}, data=said, what=name)
        took_s = time.monotonic() - began
        slowest[0] = max(slowest[0], took_s)
        limit_s = THREADS * FILE_WITHIN_S * torture.factor()
        figures.check(took_s < limit_s, f"{took_s:.1f} s: {path} {name}")
        figures.check("root:" not in answer.text, f"/etc/passwd: {path} {name}")
        statuses[answer.is_success] += 1
        if answer.is_success and name not in HARMLESS and "attachment" not in path:
            told = answer.json()
            harmless = told.get("accepted") == 0 or told.get("rejected")
            figures.check(bool(harmless), f"taken: {path} {name} {answer.text[:150]}")

    largest: dict[int, float] = {}
    for limit_mib in sorted(set(most_mib.values())):
        some = [(path, who) for path, who in doors.items() if most_mib[path] == limit_mib]
        memory = Memory(site)
        memory.start()
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                for name in names:
                    list(pool.map(lambda door, name=name: send(name, *door), some))
        finally:
            memory.ended.set()
            memory.join()
        largest[limit_mib] = memory.child_mib
        worker_mib = max(worker_mib, memory.worker_mib)
        figures.check(
            memory.child_mib <= limit_mib, f"a child of {memory.child_mib:.0f} of {limit_mib} MiB"
        )
    more = site.sql("SELECT count(*) FROM facility") - facilities
    figures.check(not _left(site), f"left behind: {_left(site)[:5]}")
    figures.own |= {
        "files": len(names),
        "doors": len(doors),
        "refused": statuses[False],
        "taken": statuses[True],
    }
    figures.own |= {"facilities from them": more, "slowest": f"{slowest[0]:.1f} s"}
    figures.own["largest child"] = ", ".join(
        f"{mib:.0f} of {limit_mib} MiB" for limit_mib, mib in largest.items()
    )
    figures.own["largest worker"] = f"{worker_mib:.0f} MiB"
