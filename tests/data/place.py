"""A `var/` with a private cluster in it, as `yutu run` makes one, and what is in it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine

from data.attachments import FOLDER, store_attachment
from data.blobs import BlobFolder
from data.cluster import Cluster
from data.database import app_engine, migrate
from data.incident_submission import store_incident
from data.rulepacks import load_packs
from tests.data.stored import at, bring, inventory, send
from tests.data.test_attachments import picture
from tests.feeds import FIELD, incident, load_divisions

SMALL = {"shared_buffers": "64MB", "max_connections": "30"}
FACILITIES = 200


class Place:
    """Its folder and its PostgreSQL."""

    def __init__(self, var: Path, runtime: Path) -> None:
        self.var, self.runtime = var, runtime
        self.cluster = Cluster(var / "postgres", runtime, settings=SMALL)

    def engine(self) -> Engine:
        return app_engine(self.cluster.url(), pool_size=2, statement_timeout_s=120)

    def set_up(self) -> None:
        """Start, with a database of the newest schema, the districts and FACILITIES facilities."""
        self.cluster.start()
        self.cluster.create_database("yutu")
        migrate(self.cluster.url())
        load_divisions(self.cluster.url())
        engine = self.engine()
        bring(engine, *inventory(FACILITIES))
        engine.dispose()

    def start_as(self, other: Place) -> None:
        """Start with what another, stopped, has in its database."""
        self.var.mkdir()
        copy = ["cp", "-a", str(other.cluster.data_dir), str(self.cluster.data_dir)]
        subprocess.run(copy, check=True)
        self.cluster.start()


def report_down(engine: Engine, prefix: str, which: range) -> None:
    send(
        engine,
        *(
            {
                "event_id": f"{prefix}-{i}",
                "facility_id": f"F{i}",
                "state": "down",
                "observed_at": at(i),
            }
            for i in which
        ),
    )


def attach(engine: Engine, var: Path, name: str, size: int) -> tuple[Any, Any]:
    body, attachment_id = incident(), uuid4()
    incident_id = UUID(body["incident_id"])
    store_incident(engine, body, body=b"{}", account=FIELD, packs=load_packs())
    photo = picture("JPEG", (size, size))
    blobs = BlobFolder(var / FOLDER)
    store_attachment(
        engine, blobs, incident_id, attachment_id, photo, file_name=name, account=FIELD
    )
    return incident_id, attachment_id


def content(cluster: Cluster) -> dict[str, tuple[int, str]]:
    """Of every table: its rows, and a hash of them all in an order of their own."""
    found = {}
    with psycopg.connect(cluster.url().replace("+psycopg", "", 1)) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN"
            " ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (name,) in tables:
            digest, rows = hashlib.sha256(), 0
            for (row,) in connection.execute(
                f'SELECT t::text FROM {name} t ORDER BY t::text COLLATE "C"'.encode()
            ):
                digest.update(row.encode() + b"\n")
                rows += 1
            found[name] = (rows, digest.hexdigest())
    return found


def files(var: Path) -> dict[str, str]:
    return {
        str(path.relative_to(var)): hashlib.sha256(path.read_bytes()).hexdigest()
        for one in (FOLDER, "tls")
        for path in (var / one).rglob("*")
        if path.is_file()
    }
