"""Times and durations at the door: RFC 3339 with an offset, nothing else; whole units of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})"
)
#: As people write it (90s, 5m, 2h, 1d), or as ISO 8601 has it (PT5M, P1D).
_DURATION = re.compile(
    r"(?P<n>[1-9]\d{0,8})(?P<u>[smhd])|P(?:(?P<d>\d{1,5})D)?"
    r"(?:T(?=\d)(?:(?P<h>\d{1,6})H)?(?:(?P<m>\d{1,8})M)?(?:(?P<s>\d{1,9})S)?)?"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION_MAX = timedelta(days=36_525)


def parse_duration(value: str) -> timedelta:
    """Read a duration in whole seconds, more than none. Raises ValueError, which says what would be
    right."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise ValueError("must be a duration such as 90s, 5m, 2h, 1d or PT5M")
    parts = found.groupdict()
    if parts["u"]:
        seconds = int(parts["n"]) * _SECONDS[parts["u"]]
    else:
        seconds = sum(int(parts[unit] or 0) * _SECONDS[unit] for unit in "dhms")
    if not 0 < seconds <= DURATION_MAX.total_seconds():
        raise ValueError("must be longer than nothing and shorter than a century")
    return timedelta(seconds=seconds)


def parse_time(value: Any) -> datetime:
    """Read an RFC 3339 time with offset. Raises ValueError, which says what would be right."""
    if type(value) is not str or len(value) > 40 or not _RFC3339.fullmatch(value):
        raise ValueError("must be a time with offset, such as 2026-07-01T08:30:00+08:00")
    try:
        parsed = datetime.fromisoformat(value.upper())
        parsed.astimezone(UTC)  # year 0001 or 9999 can leave the calendar by its offset
    except (ValueError, OverflowError) as error:
        raise ValueError("is not a real date and time") from error
    return parsed
