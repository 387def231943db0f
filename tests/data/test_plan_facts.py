"""Declared facts: only what no sensor knows, each revision kept, the newest in force."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from data.database import app_engine, reading, sequence_at
from data.plan_facts import (
    Declaration,
    closed_at,
    declarable,
    declared_facts,
    read_declaration,
    store_facts,
)
from data.rulepacks import load_packs
from geo.errors import InvalidInput
from geo.rules import RulePack

COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
PACKS = load_packs()


def pack(plan: str) -> RulePack:
    return PACKS.at(plan, datetime.now(UTC))


@pytest.fixture(scope="module")
def engine(database_url: str) -> Any:
    made = app_engine(database_url)
    yield made
    made.dispose()


def declare(engine: Engine, plan: str, facts: dict[str, Any], close: bool = False) -> Any:
    said = Declaration(facts, "because", close)
    return store_facts(engine, plan, said, body=b"{}", account="commander")


def declared(engine: Engine, plan: str, at: int | None = None) -> dict[str, Any]:
    with reading(engine) as connection:
        newest = sequence_at(connection, None)
        return declared_facts(connection, plan, newest if at is None else at)


def test_only_declarations_of_an_authority_can_be_declared() -> None:
    assert declarable(pack(COMMS)) == (
        "national_response",
        "exceeds_city_capacity",
        "municipal_key_service_down",
        "district_key_service_down",
    )
    assert declarable(pack(POWER)) == declarable(pack(SPECIAL)) == ()


@pytest.mark.parametrize(
    "body",
    [
        {"reason": "notice 12", "facts": {"national_response": "II"}},
        {"reason": "notice 12", "national_response": "II"},
    ],
)
def test_facts_stand_in_facts_or_beside_the_reason(body: dict[str, Any]) -> None:
    assert read_declaration(body, pack(COMMS)) == Declaration(
        {"national_response": "II"}, "notice 12", False
    )


@pytest.mark.parametrize(
    ("plan", "body", "field"),
    [
        (COMMS, {"facts": {"national_response": "II"}}, "reason"),
        (COMMS, {"reason": " ", "facts": {}}, "reason"),
        (COMMS, {"reason": "r"}, "facts"),
        (COMMS, {"reason": "r", "facts": {"districts": []}}, "facts.districts"),
        (COMMS, {"reason": "r", "districts": []}, "districts"),
        (COMMS, {"reason": "r", "facts": {"weather": 1}}, "facts.weather"),
        (COMMS, {"reason": "r", "facts": {"national_response": "V"}}, "facts.national_response"),
        (
            COMMS,
            {"reason": "r", "facts": {"exceeds_city_capacity": 1}},
            "facts.exceeds_city_capacity",
        ),
        (COMMS, {"reason": "r", "facts": []}, "facts"),
        (COMMS, {"reason": "r", "facts": {}, "national_response": "I"}, "national_response"),
        (COMMS, {"reason": "r", "facts": {}, "close_event": True}, "close_event"),
        (COMMS, {"reason": "r", "facts": {}, "close_event": "yes"}, "close_event"),
        (POWER, {"reason": "r", "facts": {"city": {"load_mw": 1}}}, "facts.city"),
        (SPECIAL, {"reason": "r", "facts": {"deaths": 1}}, "facts.deaths"),
    ],
)
def test_what_is_counted_or_impossible_is_refused_by_name(
    plan: str, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_declaration(body, pack(plan))
    assert field in {f.field for f in refused.value.faults}


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidInput):
        read_declaration(["national_response"], pack(COMMS))


def test_a_declaration_replaces_the_one_before_and_the_past_stays_known(engine: Engine) -> None:
    first = declare(engine, COMMS, {"national_response": "II", "exceeds_city_capacity": True})
    second = declare(engine, COMMS, {"national_response": None})
    assert second.revision == first.revision + 1
    assert declared(engine, COMMS) == {"national_response": None}
    assert declared(engine, COMMS, first.sequence)["national_response"] == "II"
    assert declared(engine, COMMS, first.sequence - 1) == {}
    assert declared(engine, SPECIAL) == {}


def test_declarations_at_once_each_get_their_revision(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(declare, engine, "race", {"n": n}) for n in range(24)]
        found = sorted(job.result().revision for job in jobs)
    assert found == list(range(1, 25))


def test_a_power_event_is_closed_at_the_time_its_end_was_confirmed(engine: Engine) -> None:
    with reading(engine) as connection:
        assert closed_at(connection, sequence_at(connection, None)) is None
    body = {"reason": "restored, confirmed by the grid company", "close_event": True}
    said = read_declaration(body, pack(POWER))
    stored = store_facts(engine, POWER, said, body=b"{}", account="commander")
    with reading(engine) as connection:
        received = connection.execute(
            text("SELECT received_at FROM change WHERE sequence = :n"), {"n": stored.sequence}
        ).scalar_one()
        assert closed_at(connection, stored.sequence) == received
        assert closed_at(connection, stored.sequence - 1) is None
