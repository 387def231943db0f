"""Whether what an account is scoped to is known here: a misspelt district or operator would see
nothing for ever, and nobody would be told."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from data.database import CITY, WHOLE_CITY, set_scope
from geo.errors import Fault, InvalidInput

KNOWN_OPERATORS = """
SELECT operator FROM unnest(CAST(:asked AS text[])) asked (operator)
WHERE EXISTS (SELECT FROM counter_group known WHERE known.operator = asked.operator)
    OR EXISTS (SELECT FROM operator_return known WHERE known.operator = asked.operator)
    OR EXISTS (SELECT FROM outage known WHERE known.operator = asked.operator)
"""


def require_districts(connection: Connection, districts: Sequence[str]) -> None:
    """Raises InvalidInput naming each district that no loaded set of divisions has or had.

    As long as no divisions are loaded any code is taken: the first accounts come before them.
    """
    if tuple(districts) == CITY:
        return
    known = set(connection.execute(text("SELECT DISTINCT adcode FROM district")).scalars())
    strange = [code for code in dict.fromkeys(districts) if code not in known]
    if known and strange:
        reason = "is a district of no divisions loaded here"
        raise InvalidInput([Fault(f"{code} {reason}", None, "district") for code in strange])


def unknown_operators(connection: Connection, operators: Sequence[str]) -> list[str]:
    """Those of whom no facility, no return and no outage is known, in the order given.

    They are taken all the same: accounts may come before the inventory.
    """
    if tuple(operators) == CITY:
        return []
    set_scope(connection, WHOLE_CITY)
    known = set(connection.execute(text(KNOWN_OPERATORS), {"asked": list(operators)}).scalars())
    return [one for one in dict.fromkeys(operators) if one not in known]
