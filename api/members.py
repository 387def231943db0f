"""Members of a report that nothing is read from: listed in its receipt, and named where a required
one of nearly the same name is missing.

docs/meanings.md, "Members not read". What is read is what the route's JSON schema names, which is
also what OpenAPI shows; an object without `properties` there is free-form and not looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from geo.errors import Fault, InvalidInput

NAMES_LISTED: Final = 100
NAME_CHARACTERS_SHOWN: Final = 64
MEMBERS_COMPARED: Final = 40
PAIRS_COMPARED: Final = 5_000
#: What other interfaces call the same, beside the name here.
_ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "state": ("status",),
    "observed_at": ("timestamp", "time"),
    "occurred_at": ("timestamp", "time"),
    "facility_id": ("facility", "site_id"),
    "total": ("facilities_total",),
    "down": ("facilities_down",),
}


def unread(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Names of members that `schema` does not know, once each, in the order they stand in; inside
    an object or a list as `hotline.colour`, `rows.totl`. At most NAMES_LISTED."""
    found: dict[str, None] = {}
    for name in _strange(value, schema, ""):
        found.setdefault(name)
        if len(found) == NAMES_LISTED:
            break
    return list(found)


def _strange(value: Any, schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    if isinstance(value, list):
        inside = schema.get("items", {})
        known = inside.get("properties", {})
        flat = not any("properties" in one or "items" in one for one in known.values())
        for one in value:
            # a report holds up to 100,000 of these, and nearly none has anything strange
            if not (flat and isinstance(one, dict) and one.keys() <= known.keys()):
                yield from _strange(one, inside, prefix)
    elif isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        for name, member in value.items():
            if name not in known:
                yield prefix + name[:NAME_CHARACTERS_SHOWN]
            else:
                yield from _strange(member, known[name], f"{prefix}{name}.")


def named_meant(faults: Iterable[Fault], value: Any, schema: Mapping[str, Any]) -> list[Fault]:
    """The faults of a body, those of a missing member naming what was likely meant as it.

    A fault with a row is of that entry (1-based) where `value` is a list, else of the object.
    """
    near = _Near()
    return [_named(fault, _entry(value, fault.row), schema, near) for fault in faults]


@contextmanager
def meant(value: Any, schema: Mapping[str, Any]) -> Iterator[None]:
    """Within, an error of the body `value` names what was likely meant by its strange members."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(named_meant(error.faults, value, schema)) from None


def _entry(value: Any, row: int | None) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return value
    return value[row - 1] if row is not None and 0 < row <= len(value) else None


def _named(fault: Fault, given: Any, schema: Mapping[str, Any], near: _Near) -> Fault:
    known = schema.get("items", schema).get("properties", {})
    name = fault.field
    if not isinstance(given, dict) or name not in known or given.get(name) is not None:
        return fault
    strange = [one for one in given if one not in known][:MEMBERS_COMPARED]
    meant = next((one for one in strange if near(one, str(name))), None)
    if meant is None:
        return fault
    return Fault(f"is missing; {meant} is not read, write {name}", fault.row, name)


class _Near:
    """Whether names are near each other, each pair looked at once and not more than so many: what
    is sent may hold a million different names."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], bool] = {}

    def __call__(self, given: str, name: str) -> bool:
        pair = (given, name)
        if pair not in self._known:
            if len(self._known) >= PAIRS_COMPARED:
                return False
            self._known[pair] = _is_near(given, name)
        return self._known[pair]


def _is_near(given: str, name: str) -> bool:
    """Whether a person who wrote `given` likely meant `name`: case, separators, a slip or two."""
    if len(given) > NAME_CHARACTERS_SHOWN or not given.isprintable():
        return False
    plain = _plain(given)
    for one in (name, *_ALSO.get(name, ())):
        slips = 1 if min(len(plain), len(_plain(one))) <= 5 else 2
        if plain and _slips(plain, _plain(one)) <= slips:
            return True
    return False


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _slips(one: str, other: str) -> int:
    """Letters put in, left out, replaced, or exchanged with their neighbour (optimal alignment)."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
