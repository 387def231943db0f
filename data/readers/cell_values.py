"""What people write in a cell, as a value: times, amounts with their unit, yes and no.

Nothing is guessed: a reader answers the value, or raises ValueError that says what would be right.
A time without an offset is China time (UTC+8), the only zone the city's papers are written in; a
time of day must be given.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

CHINA: Final = datetime.timezone(datetime.timedelta(hours=8))
CHARACTERS_MAX: Final = 80
_TIME_RIGHT: Final = (
    "give date and time of day, such as 2026-11-21 08:30, 2026年11月21日 8:30"
    " or 2026-11-21T08:30:00+08:00"
)
_HALVES: Final = {
    "凌晨": 0, "早上": 0, "早晨": 0, "上午": 0, "AM": 0,
    "中午": 12, "下午": 12, "傍晚": 12, "晚上": 12, "晚": 12, "PM": 12,
}  # fmt: skip
_HALF = "|".join(_HALVES)
_TIME: Final = re.compile(
    rf"(?P<year>\d{{4}})\s*(?P<apart>[-/.年])\s*(?P<month>\d{{1,2}})\s*[-/.月]\s*(?P<day>\d{{1,2}})"
    rf"\s*[日号]?(?:\s*(?:星期|周)[一二三四五六日天])?"
    rf"(?:[T,\s]*(?P<before>{_HALF})?\s*(?P<hour>\d{{1,2}})\s*[:时点]\s*(?P<minute>\d{{1,2}}|半|整)?"
    rf"\s*分?(?:[:]?\s*(?P<second>\d{{1,2}}(?:\.\d{{1,9}})?)\s*秒?)?\s*(?P<after>AM|PM)?)?"
    rf"\s*(?P<offset>Z|UTC|GMT|(?:UTC|GMT)?[+-]\d{{1,2}}(?::?\d{{2}})?)?",
    re.IGNORECASE,
)
_COMPACT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})[T ]?(\d{2})(\d{2})(\d{2})")
_AMOUNT: Final = re.compile(
    r"(?P<number>[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,20})?(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)"
    r"\s*(?P<unit>[^\d\s.,+-][^\d]{0,11})?"
)


def read_time(cell: Any) -> str:
    """The RFC 3339 time, with offset, of a date cell or of text. Raises ValueError."""
    if isinstance(cell, datetime.datetime):
        return _written(cell)
    if isinstance(cell, datetime.date):
        raise ValueError(f"has no time of day; {_TIME_RIGHT}")
    if isinstance(cell, bool) or not isinstance(cell, str):
        raise ValueError(f"is a number, not a time; {_TIME_RIGHT}")
    text = unicodedata.normalize("NFKC", cell[: CHARACTERS_MAX + 1]).strip()
    compact = _COMPACT.fullmatch(text)
    if compact:
        return _written(_moment([int(part) for part in compact.groups()]))
    found = _TIME.fullmatch(text) if len(text) <= CHARACTERS_MAX else None
    if found is None:
        raise ValueError(f"cannot be read as a time; {_TIME_RIGHT}")
    if found["hour"] is None:
        _moment([int(found[part]) for part in ("year", "month", "day")])
        raise ValueError(f"has no time of day; {_TIME_RIGHT}")
    if found["minute"] is None and ":" in text[found.start("hour") :][:4]:
        raise ValueError(f"cannot be read as a time; {_TIME_RIGHT}")
    hour = _hour(int(found["hour"]), (found["before"] or found["after"] or "").upper())
    minute = {"半": 30, "整": 0}.get(found["minute"] or "整")
    second = Decimal(found["second"] or 0)
    whole = int(second)
    moment = _moment(
        [
            *(int(found[part]) for part in ("year", "month", "day")),
            hour,
            int(found["minute"]) if minute is None else minute,
            whole,
            int((second - whole) * 1_000_000),
        ]
    )
    return _written(moment.replace(tzinfo=_offset(found["offset"])))


def _hour(hour: int, half: str) -> int:
    if not half:
        return hour
    begins = _HALVES[half]
    if begins == 12 and hour < 12:
        # 中午 11:30 is before noon; nobody writes 中午 for eleven at night.
        return hour if half == "中午" and hour >= 10 else hour + 12
    return 0 if begins == 0 and hour == 12 and half in ("AM", "凌晨") else hour


def _moment(parts: list[int]) -> datetime.datetime:
    try:
        return datetime.datetime(*parts, tzinfo=CHINA)  # type: ignore[misc, arg-type]
    except ValueError:
        raise ValueError("is not a real date and time") from None


def _offset(text: str | None) -> datetime.timezone:
    if not text:
        return CHINA
    figures = re.sub(r"[^\d+-]", "", text)
    if not figures:
        return datetime.UTC
    hours, minutes = int(figures[1:3]), int(figures[3:5] or 0)
    if hours > 14 or minutes > 59:
        raise ValueError("is not a real date and time")
    size = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-size if figures[0] == "-" else size)


def _written(moment: datetime.datetime) -> str:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=CHINA)
    # Workbooks store a day as a fraction, which leaves a few microseconds over or short.
    if moment.microsecond and min(moment.microsecond, 1_000_000 - moment.microsecond) < 1000:
        moment = (moment + datetime.timedelta(milliseconds=1)).replace(microsecond=0)
    try:
        moment.astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError("is not a real date and time") from None
    return moment.isoformat()


def read_amount(
    cell: Any, units: Mapping[str, str], header_unit: str | None = None
) -> Decimal | None:
    """A number in the unit of its fact. `units`: unit as written → how many of the fact's own.

    A unit in the cell wins over `header_unit`, the one behind the column's name.
    Raises ValueError; None for an empty cell.
    """
    if cell is None:
        return None
    if isinstance(cell, bool):
        raise ValueError("must be a number")
    unit = header_unit
    if isinstance(cell, int | float):
        if not math.isfinite(cell) or abs(cell) > 1e18:
            raise ValueError("must be a finite number")
        number = Decimal(str(cell))
    else:
        found = _AMOUNT.fullmatch(unicodedata.normalize("NFKC", str(cell)[:60]).strip())
        if found is None or not any(c.isdigit() for c in found["number"]):
            raise ValueError("must be a number such as 3 or 12.5; 0 says none, empty says unknown")
        try:
            number = Decimal(found["number"].replace(",", ""))
        except InvalidOperation:
            raise ValueError("must be a finite number") from None
        unit = (found["unit"] or "").strip() or header_unit
    if unit is None:
        return number
    known = {name.casefold(): size for name, size in units.items()}
    if unit.casefold() not in known:
        raise ValueError(f"is in a unit that is not known here; use one of {', '.join(units)}")
    return number * Decimal(known[unit.casefold()])


def as_number(amount: Decimal) -> int | float:
    """The amount as JSON writes it: whole where it is whole."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def folded(text: str) -> str:
    """A word or header as it is compared: without width, case, blanks, hyphens, underscores."""
    plain = unicodedata.normalize("NFKC", text[:200]).strip().strip("\ufeff\u200b*:").casefold()
    return re.sub(r"[\s_\-]+", "", plain) or plain
