"""Times at the door: RFC 3339 with an offset, nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})"
)


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
