"""Typed members of one JSON object, read with every fault collected: what arrives at the door.

A reader takes a member by name and answers its value, or None after noting what would be right.
Nothing here repeats the caller's input in a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import rfc8785

from data.status import MAX_ID_LENGTH, canonical_sha256
from data.times import parse_time
from geo.errors import Fault, InvalidInput

AMOUNT_MAX = 10**12
"""kW, customers, facilities: far above anything real, and sums of many stay in 64 bits."""


class Fields:
    """The members of `given`; faults carry `row` (1-based) and the names under `prefix`."""

    def __init__(
        self,
        given: Mapping[str, Any],
        faults: list[Fault],
        *,
        prefix: str = "",
        row: int | None = None,
    ) -> None:
        self._given = given
        self._prefix = prefix
        self.row = row
        self.faults = faults

    def fault(self, name: str, reason: str) -> None:
        self.faults.append(Fault(reason, self.row, self._prefix + name))

    def raw(self, name: str, *, required: bool = False) -> Any:
        """The member as it is; absent and null are the same."""
        value = self._given.get(name)
        if value is None and required:
            self.fault(name, "is missing")
        return value

    def identifier(self, name: str, *, required: bool = False) -> str | None:
        """A printable text of 1 to 128 characters, without blanks at its ends."""
        value = self.raw(name, required=required)
        if value is None:
            return None
        if type(value) is not str or not value or value != value.strip():
            self.fault(name, "must be a non-empty text without blanks at its ends")
        elif len(value) > MAX_ID_LENGTH:
            self.fault(name, f"is longer than {MAX_ID_LENGTH} characters")
        elif not value.isprintable():
            self.fault(name, "holds a control character")
        else:
            return value
        return None

    def incident(self, name: str) -> UUID | None:
        """The UUID of an incident; required."""
        value = self.raw(name, required=True)
        if value is None:
            return None
        try:
            return UUID(value if type(value) is str else "")
        except ValueError:
            self.fault(name, "must be the UUID of an incident")
            return None

    def words(self, name: str, *, characters_max: int, required: bool = False) -> str | None:
        """A text for people; without NUL, which the database cannot hold."""
        value = self.raw(name, required=required)
        if value is None:
            return None
        if type(value) is not str or len(value) > characters_max or "\x00" in value:
            self.fault(name, f"must be a text of at most {characters_max} characters")
            return None
        if required and not value.strip():
            self.fault(name, "is empty")
            return None
        return value

    def choice(self, name: str, allowed: Collection[str], *, required: bool = False) -> str | None:
        value = self.raw(name, required=required)
        if value is None or (type(value) is str and value in allowed):
            return value
        self.fault(name, f"must be one of {', '.join(allowed)}")
        return None

    def truth(self, name: str, default: bool) -> bool:
        value = self.raw(name)
        if value is None or type(value) is bool:
            return default if value is None else value
        self.fault(name, "must be true or false")
        return default

    def amount(self, name: str, *, required: bool = False, at_most: int = AMOUNT_MAX) -> int | None:
        """A whole number from 0; `12.0` is one too, as spreadsheets write it."""
        value = self.raw(name, required=required)
        if value is None:
            return None
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            self.fault(name, "must be a whole number")
        elif value < 0:
            self.fault(name, "must not be negative")
        elif value > at_most:
            self.fault(name, f"must be at most {at_most}")
        else:
            return value
        return None

    def measure(self, name: str, *, at_most: float) -> float | None:
        """A finite number from 0."""
        value = self.raw(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value <= at_most:
            self.fault(name, f"must be a number from 0 to {at_most:g}")
            return None
        return float(value)

    def time(self, name: str, *, required: bool = False) -> datetime | None:
        value = self.raw(name, required=required)
        if value is None:
            return None
        try:
            return parse_time(value)
        except ValueError as error:
            self.fault(name, str(error))
            return None


def body_sha256(body: Any) -> bytes:
    """What "same body" means (SHA-256 of its RFC 8785 form). Raises InvalidInput for what that form
    cannot express: whole numbers beyond 2^53."""
    try:
        return canonical_sha256(body)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise InvalidInput("a whole number is beyond ±2^53 and has no canonical form") from None


def require_object(value: Any, what: str) -> dict[str, Any]:
    """`value`, which must be a JSON object. Raises InvalidInput."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is a JSON object")
    return value


def refuse_unknown(given: Mapping[str, Any], members: Collection[str]) -> None:
    """A misspelt member must not silently change what is asked or supposed. Raises InvalidInput."""
    strange = [name for name in given if name not in members]
    if strange:
        known = ", ".join(members)
        raise InvalidInput(
            [Fault(f"is no member of this; known are {known}", None, one[:64]) for one in strange]
        )
