"""A small, exact inventory over the real divisions, for tests of what arrives from outside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pandas as pd
from sqlalchemy import Engine

from data.accounts import Account
from data.database import owner_engine
from data.default_divisions import ensure_default_divisions
from data.facilities import COLUMNS, import_facilities

YUZHONG, SHAPINGBA, NANAN, LIANGJIANG = "500103", "500106", "500108", "500157"
#: Longitude, latitude (WGS-84) well inside each district.
INSIDE = {YUZHONG: (106.553, 29.553), SHAPINGBA: (106.40, 29.62), NANAN: (106.63, 29.51)}
CHENGDU = (104.07, 30.67)

COMMANDER = Account("commander", "commander", ("*",))
VIEWER = Account("viewer", "viewer", ("*",))
FIELD = Account("field", "field", (YUZHONG,))
FIELD_OTHER = Account("field-other", "field", (SHAPINGBA,))
FIELD_COLLEAGUE = Account("field-colleague", "field", (YUZHONG,))


def load_divisions(database_url: str) -> None:
    """The two real division versions, with the owner's rights."""
    engine = owner_engine(database_url)
    ensure_default_divisions(engine)
    engine.dispose()


def facility(facility_id: str, lon: float, lat: float, **more: Any) -> dict[str, Any]:
    """A row of the inventory; a substation of the grid company unless said otherwise."""
    base = dict.fromkeys(COLUMNS)
    base |= {
        "facility_id": facility_id,
        "name": facility_id,
        "kind": "substation",
        "operator": "grid",
        "network": "",
        "main_grid": True,
        "load_kw": 0,
        "customers": 0,
        "population": 0,
        "state_at_import": "up",
        "synthetic": False,
        "crs": "WGS84",
        "original_x": lon,
        "original_y": lat,
        "lon": lon,
        "lat": lat,
    }
    return base | more


def load_facilities(engine: Engine, rows: Iterable[dict[str, Any]], **more: Any) -> None:
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, "lon", "lat"])
    import_facilities(engine, frame, account="planner", body=b"test", **more)


def incident(**more: Any) -> dict[str, Any]:
    """A body of a lift incident in Yuzhong ten minutes ago, with an id of its own."""
    return {
        "incident_id": str(uuid4()),
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "occurred_at": ago(minutes=10),
        "position": list(INSIDE[YUZHONG]),
        **more,
    }


def ago(**delta: float) -> str:
    """A time before now, as RFC 3339."""
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()
