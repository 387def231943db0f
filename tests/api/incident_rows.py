"""Files of incidents as the tests of their import write and send them."""

from __future__ import annotations

from uuid import uuid4

from tests.data.incident_files.generate import PLAN

PATH = "/v1/incidents/import"
#: Beside files whose rows do not say it themselves.
SAID = {"plan": PLAN, "kind": "elevator"}


def line(**cells: str) -> str:
    said = {"id": str(uuid4()), "time": "2026-11-21 08:30", "kind": "电梯", "plan": "特种设备"}
    said |= {"lon": "106.553", "lat": "29.553", "deaths": "0"} | cells
    return ",".join(said.values())


def table(*lines: str) -> tuple[str, bytes]:
    """A CSV of these lines."""
    head = "事件编号,事发时间,设备类型,预案,经度,纬度,死亡人数"
    return "rows.csv", "\n".join([head, *lines, ""]).encode()
