"""What can go wrong, in the domain's own words; nothing here knows HTTP.

YutuError
├── InvalidInput      the caller's data: one or many faults, each naming row, field and remedy
│   ├── CrsError      a missing, unknown or mismatched coordinate reference system
│   └── TooLarge      more rows, bytes, vertices or pixels than the published limit
├── NotFound          nothing of that id that the caller may see
├── Conflict          the id exists with another body; the stored one is untouched
├── VersionMismatch   an edit was based on a version that is no longer the newest
├── NotAllowed        the plan or the account's scope does not let this person do this
├── TooMany           more attempts than are let through; says when to try again
├── PlanError         a rule pack is malformed; names file and line
└── Unavailable       cannot answer now, with the remedy and when to retry
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the input. `row` is 1-based without the header, None for the whole."""

    reason: str
    row: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        where = [f"row {self.row}"] if self.row is not None else []
        where += [self.field] if self.field else []
        return f"{', '.join(where)}: {self.reason}" if where else self.reason


class YutuError(Exception):
    """Base of every error Yutu raises on purpose. `str()` is safe to show to the caller."""


class InvalidInput(YutuError):
    """The caller's data is wrong; `faults` lists everything found, not only the first."""

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        self.faults: tuple[Fault, ...] = (
            (Fault(faults),) if isinstance(faults, str) else tuple(faults)
        )
        super().__init__("; ".join(str(f) for f in self.faults[:20]))


class CrsError(InvalidInput):
    """A coordinate reference system is missing, unknown, or not the one required."""


class TooLarge(InvalidInput):
    """The input exceeds a published limit."""


class NotFound(YutuError):
    """No such object, or none the caller may know of."""


class Conflict(YutuError):
    """The id is taken by a different body, which stays as it is."""


class VersionMismatch(YutuError):
    """The edit's If-Match is not the stored version."""


class NotAllowed(YutuError):
    """The account's role or scope, or the plan's clause, forbids it."""


class TooMany(YutuError):
    """Held off for now; `retry_after_s` says for how long."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PlanError(YutuError):
    """A rule pack is malformed."""


class Unavailable(YutuError):
    """Not now; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
