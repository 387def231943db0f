"""Saved scenarios: named by their owner, shared or not, kept apart from everything that happened.

No change is published, so no situation, counter or sequence moves. What came of a scenario when it
was saved is kept with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from data.accounts import Account
from data.audit import record
from data.database import reading
from geo.errors import Conflict, NotAllowed, NotFound

NAME_CHARACTERS_MAX = 200
SCENARIOS_MAX = 1000
"""Scenarios in force of one owner."""

_VISIBLE = "retired_at IS NULL AND (owner = :caller OR shared)"
_SHORT = "scenario_id, name, owner, shared, created_at"


@dataclass(frozen=True)
class SavedScenario:
    status: Literal["created", "identical"]
    json: dict[str, Any]


def save_scenario(
    engine: Engine,
    *,
    name: str,
    shared: bool,
    body: Mapping[str, Any],
    body_sha256: bytes,
    result: Mapping[str, Any],
    account: Account,
) -> SavedScenario:
    """Keep a scenario with its result; the same name and body again changes nothing.

    Raises Conflict when the owner has another scenario of that name, or too many.
    """
    with engine.connect() as connection, connection.begin():
        stored = _own(connection, name, account)
        if stored is not None:
            return _again(stored, body_sha256)
        held = connection.execute(
            text("SELECT count(*) FROM scenario WHERE owner = :owner AND retired_at IS NULL"),
            {"owner": account.username},
        ).scalar_one()
        if held >= SCENARIOS_MAX:
            raise Conflict(f"there are {SCENARIOS_MAX} scenarios already; retire some of them")
        try:
            with connection.begin_nested():
                row = connection.execute(
                    text(
                        "INSERT INTO scenario (scenario_id, name, owner, shared, body,"
                        " body_sha256, result) VALUES (:id, :name, :owner, :shared,"
                        " CAST(:body AS jsonb), :sha, CAST(:result AS jsonb)) RETURNING *"
                    ),
                    {
                        "id": uuid.uuid4(),
                        "name": name,
                        "owner": account.username,
                        "shared": shared,
                        "body": orjson.dumps(dict(body)).decode(),
                        "sha": body_sha256,
                        "result": orjson.dumps(dict(result)).decode(),
                    },
                ).one()
        except IntegrityError:  # somebody was faster with this name
            stored = _own(connection, name, account)
            if stored is None:
                raise
            return _again(stored, body_sha256)
        record(
            connection,
            "scenario.kept",
            account=account.username,
            subject=f"scenario:{row.scenario_id}",
            detail={"shared": shared, "body_sha256": body_sha256.hex()},
        )
    return SavedScenario("created", _whole(row))


def list_scenarios(engine: Engine, account: Account) -> list[dict[str, Any]]:
    """The caller's own scenarios and those shared, the newest first, without their results."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(f"SELECT {_SHORT} FROM scenario WHERE {_VISIBLE} ORDER BY created_at DESC, name"),
            {"caller": account.username},
        ).all()
    return [_short(row) for row in rows]


def read_saved(engine: Engine, scenario_id: uuid.UUID, account: Account) -> dict[str, Any]:
    """One scenario with its definition and its result. Raises NotFound."""
    with reading(engine) as connection:
        row = connection.execute(
            text(f"SELECT * FROM scenario WHERE scenario_id = :id AND {_VISIBLE}"),
            {"id": scenario_id, "caller": account.username},
        ).one_or_none()
    if row is None:
        raise NotFound("no such scenario")
    return _whole(row)


def share_scenario(
    engine: Engine, scenario_id: uuid.UUID, shared: bool, account: Account
) -> dict[str, Any]:
    """Share a scenario with everyone who may read scenarios, or no longer."""
    act = "scenario.shared" if shared else "scenario.unshared"
    _change(engine, scenario_id, "shared = :shared", {"shared": shared}, account, act)
    return read_saved(engine, scenario_id, account)


def retire_scenario(engine: Engine, scenario_id: uuid.UUID, account: Account) -> None:
    """Take a scenario out of every list; its name is free again."""
    _change(engine, scenario_id, "retired_at = now()", {}, account, "scenario.retired")


def _change(
    engine: Engine,
    scenario_id: uuid.UUID,
    sets: str,
    values: dict[str, Any],
    account: Account,
    act: str,
) -> None:
    read = read_saved(engine, scenario_id, account)  # what one may not see is not there
    if read["owner"] != account.username:
        raise NotAllowed("the scenario belongs to another account")
    with engine.connect() as connection, connection.begin():
        connection.execute(
            text(f"UPDATE scenario SET {sets} WHERE scenario_id = :id AND owner = :owner"),
            {**values, "id": scenario_id, "owner": account.username},
        )
        record(connection, act, account=account.username, subject=f"scenario:{scenario_id}")


def _own(connection: Connection, name: str, account: Account) -> Any:
    return connection.execute(
        text("SELECT * FROM scenario WHERE owner = :owner AND name = :name AND retired_at IS NULL"),
        {"owner": account.username, "name": name},
    ).one_or_none()


def _again(row: Any, body_sha256: bytes) -> SavedScenario:
    if bytes(row.body_sha256) != body_sha256:
        raise Conflict("another scenario of yours has this name; retire it or choose another name")
    return SavedScenario("identical", _whole(row))


def _short(row: Any) -> dict[str, Any]:
    return {
        "scenario_id": str(row.scenario_id),
        "name": row.name,
        "owner": row.owner,
        "shared": row.shared,
        "created_at": row.created_at.isoformat(),
    }


def _whole(row: Any) -> dict[str, Any]:
    return {**_short(row), "scenario": row.body, "result": row.result}
