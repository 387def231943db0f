"""A pair said to be two accidents is not listed as one; merging takes that back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from data.accounts import Account
from data.database import app_engine
from data.incident_distinct import mark_distinct, read_distinction
from data.incident_history import incident_history
from data.incident_merge import merge_incident, read_merge, read_unmerge
from data.incident_submission import store_incident
from data.incidents import get_incident
from data.rulepacks import load_packs
from geo.errors import InvalidInput, NotAllowed, NotFound
from tests.data.test_incidents import incident
from tests.feeds import COMMANDER, FIELD, FIELD_OTHER, INSIDE, NANAN

PACKS = load_packs()


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url)
    yield made
    made.dispose()


def store(engine: Engine, account: Account = COMMANDER, **more: Any) -> str:
    body = incident(**more)
    raw = json.dumps(body).encode()
    return str(
        store_incident(engine, body, body=raw, account=account, packs=PACKS).json["incident_id"]
    )


def near(engine: Engine, incident_id: str) -> list[str]:
    found: list[str] = get_incident(engine, UUID(incident_id), COMMANDER, PACKS)["properties"][
        "probable_duplicates"
    ]
    return found


def part(engine: Engine, one: str, other: str, account: Account = COMMANDER) -> dict[str, Any]:
    given = read_distinction({"other": other, "reason": "两栋楼"})
    return mark_distinct(engine, UUID(one), given, body=b"{}", account=account)


def test_a_pair_parted_is_listed_no_more_in_either_and_stands_in_the_history(
    engine: Engine,
) -> None:
    one, two, three = (store(engine) for _ in range(3))
    assert set(near(engine, one)) == {two, three}
    first = part(engine, one, two, FIELD)
    assert first["sequence"] is not None
    assert part(engine, two, one)["sequence"] is None, "the same again, the other way round"
    assert near(engine, one) == [three]
    assert near(engine, two) == [three]
    for incident_id, other in ((one, two), (two, one)):
        told = incident_history(engine, UUID(incident_id), COMMANDER)["distinct"]
        assert [(t["incident_id"], t["account"], t["reason"]) for t in told] == [
            (other, "field", "两栋楼")
        ]


def test_a_merge_takes_it_back(engine: Engine) -> None:
    one, two = store(engine), store(engine)
    part(engine, one, two)
    asked: dict[str, Any] = {"body": b"{}", "account": COMMANDER, "packs": PACKS}
    merge = read_merge({"into": two, "reason": "同一起"})
    merge_incident(engine, UUID(one), merge, **asked)
    merge_incident(engine, UUID(one), read_unmerge({"reason": "x"}), **asked)
    assert near(engine, one) == [two]


def test_only_within_ones_districts_and_never_from_itself(engine: Engine) -> None:
    one = store(engine)
    far = store(engine, position=list(INSIDE[NANAN]))
    with pytest.raises(NotFound):
        part(engine, one, far, FIELD_OTHER)
    with pytest.raises(NotFound):
        part(engine, one, far, FIELD)
    mine = store(engine, FIELD, position=list(INSIDE[NANAN]))
    with pytest.raises(NotAllowed):
        part(engine, one, mine, FIELD)
    with pytest.raises(InvalidInput):
        part(engine, one, one)


@pytest.mark.parametrize("body", [[], {"other": "x", "reason": "y"}, {"reason": "y"}])
def test_a_distinction_names_the_other_and_a_reason(body: Any) -> None:
    with pytest.raises(InvalidInput):
        read_distinction(body)
