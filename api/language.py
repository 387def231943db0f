"""The reader's language (`zh` unless asked otherwise) and the instants of a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qs

from data.times import parse_time
from geo.errors import Fault, InvalidInput

Lang = Literal["zh", "en"]
FUTURE_TOLERANCE = timedelta(minutes=5)

_SPACE_FOR_PLUS = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)


def preferred(accept_language: str) -> Lang:
    """The better liked of zh and en in an Accept-Language header; zh when it names neither."""
    best: tuple[float, Lang] = (0.0, "zh")
    for part in accept_language[:500].split(","):
        tag, _, parameters = part.partition(";")
        match = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameters) if parameters else None
        quality = float(match[1]) if match else (0.0 if parameters else 1.0)
        primary = tag.strip().lower().split("-")[0]
        if quality > best[0] and primary in ("zh", "en"):
            best = (quality, "zh" if primary == "zh" else "en")
    return best[1]


def language_of(scope: Mapping[str, Any]) -> Lang:
    """The language of an answer: `?lang=`, else Accept-Language. Never raises."""
    query = scope.get("query_string", b"")
    if b"lang=" in query:
        asked = parse_qs(query.decode("latin-1")).get("lang", [""])[-1]
        if asked in ("zh", "en"):
            return "zh" if asked == "zh" else "en"
    for name, value in scope.get("headers", ()):
        if name == b"accept-language":
            return preferred(value.decode("latin-1"))
    return "zh"


def parse_at(value: str | None, now: datetime | None = None) -> datetime | None:
    """The instant of `?at=` in UTC, None without one: RFC 3339, its offset required.

    A `+` that arrives as a space is read as `+`. Raises InvalidInput for anything else, and for an
    instant more than five minutes ahead: nobody knows yet what will be known then.
    """
    if value is None:
        return None
    value = value.upper()
    head, offset = value[:11], value[11:]  # the date may be parted from the time by a space
    try:
        at = parse_time(head + _SPACE_FOR_PLUS.sub("+", offset)).astimezone(UTC)
    except ValueError as error:
        raise InvalidInput([Fault(str(error), field="at")]) from None
    if at > (now or datetime.now(UTC)) + FUTURE_TOLERANCE:
        raise InvalidInput([Fault("lies in the future", field="at")])
    return at
