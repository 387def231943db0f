"""The template of incidents, filled with its own example, is a file the reader takes whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from data.blobs import BlobFolder
from data.database import app_engine
from data.incident_import import import_incidents
from data.incident_template import incident_template_csv, incident_template_xlsx
from data.readers.incident_file import parse_incident_file
from data.rulepacks import load_packs
from geo.errors import InvalidInput
from tests.feeds import COMMANDER

PACKS = load_packs()
MAKERS = {"csv": incident_template_csv, "xlsx": incident_template_xlsx}


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    engine = app_engine(divided_database_url, pool_size=1)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_imports_as_it_stands(engine: Engine, tmp_path: Path, form: str, lang: str):
    for plan in (*PACKS.plans(), None):
        path = tmp_path / f"{plan}.{form}"
        path.write_bytes(MAKERS[form](PACKS, plan, lang))
        file = parse_incident_file(
            path, name=path.name, crs=None, plan=None, kind=None, owner=f"{form}{lang}{plan}"
        )
        assert file.unread == []
        assert [row.faults for row in file.rows] == [[]]
        body = file.rows[0].body
        assert body is not None
        assert body["plan"] == (plan or "special-equipment-2023")
        if body["plan"] == "special-equipment-2023":
            assert body["kind"] == "elevator"
            assert body["facts"]["direct_loss_yuan"] == 2_500
            assert body["facts"]["stranded_since"] == "2026-01-05T14:30:00+08:00"
        receipt = import_incidents(
            engine, file, original=path, account=COMMANDER, packs=PACKS,
            blobs=BlobFolder(tmp_path / "blobs"), lang=lang,
        )  # fmt: skip
        assert (receipt.accepted, receipt.duplicates, receipt.rejected) == (1, 0, ())
        assert receipt.incidents[0]["adcode"] == "500103"
        assert receipt.incidents[0]["level"] is None, "a forgotten example raises no level"


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_has_a_column_for_every_fact_of_its_plan(tmp_path: Path, lang: str):
    for plan in PACKS.plans():
        path = tmp_path / "template.csv"
        path.write_bytes(incident_template_csv(PACKS, plan, lang))
        file = parse_incident_file(
            path, name=path.name, crs=None, plan=None, kind=None, owner="zhang"
        )
        facts = {f"facts.{n}" for n in PACKS.current(plan).schema.groups[""].facts}
        facts.discard("facts.equipment")
        assert facts == {field for field in file.columns.values() if field.startswith("facts.")}


def test_a_plan_may_be_asked_for_by_its_name_and_an_unknown_one_is_refused():
    assert incident_template_csv(PACKS, "特种设备", "zh") == incident_template_csv(
        PACKS, "special-equipment-2023", "zh"
    )
    with pytest.raises(InvalidInput, match="must be one of"):
        incident_template_csv(PACKS, "flood", "zh")
