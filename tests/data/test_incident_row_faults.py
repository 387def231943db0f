"""Every fault of a row of incidents is listed together."""

from __future__ import annotations

from typing import Any

import pytest

from data.readers.cell_values import read_time
from data.readers.incident_columns import Column, RowReader

GOOD = {"occurred_at": "2026-11-20 08:30", "plan": "special-equipment", "kind": "boiler"}


def _fields(cells: dict[str, Any], place: list[float] | None = None) -> set[str | None]:
    columns = {name: Column(name) for name in cells}
    _, faults = RowReader(columns, {}).read(7, cells, place)
    assert all(fault.row == 7 for fault in faults)
    return {fault.field for fault in faults}


def test_an_impossible_latitude_is_told_beside_a_missing_time() -> None:
    fields = _fields({"plan": GOOD["plan"], "kind": GOOD["kind"]}, [106.5, 99.0])
    assert fields >= {"occurred_at", "position"}


def test_exchanged_axes_are_told_beside_a_negative_amount() -> None:
    fields = _fields({**GOOD, "accuracy_m": "-1", "lon": "29.5", "lat": "106.5"})
    assert fields >= {"accuracy_m", "position"}


def test_an_unreadable_position_is_told_beside_a_bad_time() -> None:
    fields = _fields({**GOOD, "occurred_at": "soon", "position": "106,5516"})
    assert fields >= {"occurred_at", "position"}


def test_a_good_position_adds_no_fault() -> None:
    assert "position" not in _fields({**GOOD, "occurred_at": "soon"}, [106.5, 29.5])


@pytest.mark.parametrize("said", ["2026/13/45", "2026-02-30"])
def test_a_day_that_does_not_exist_is_told_as_such(said: str) -> None:
    with pytest.raises(ValueError, match="not a real date"):
        read_time(said)
