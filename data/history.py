"""The situation along a series of moments: levels, shares, what is restored, causes, who reports.

docs/meanings.md, "History". A point at `t` says what `GET /v1/situation?at=t` says; it is not
computed by itself, but carried from the point before (`data.history_counts`, `data.history_power`,
`data.history_levels`, `data.history_sites`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from data.database import reading
from data.divisions import district_rows
from data.history_counts import Counted, CountHistory
from data.history_points import Point, points, segments
from data.history_series import Series, series_of
from data.rulepacks import RulePacks
from data.settings import SituationSettings
from geo.errors import Fault, InvalidInput
from geo.history import age_s, moments

POINTS_MAX = 2_000
#: Points of all series together.
VALUES_MAX = 100_000
#: What a series has without `every`, and how long it is without `from`.
POINTS_USUAL = 288
SPAN_USUAL = timedelta(hours=24)


@dataclass(frozen=True)
class Question:
    """What is asked. `adcodes`: districts; `everywhere`: all that were in force at some point; the
    city as a whole where neither is said. `kinds` of facilities, None: the plan's."""

    metric: str
    plan: str | None = None
    adcodes: tuple[str, ...] = ()
    everywhere: bool = False
    kinds: tuple[str, ...] | None = None
    begin: datetime | None = None
    end: datetime | None = None
    every: timedelta | None = None


@dataclass
class _Answer:
    """What is gathered on the way: per series (adcode, operator) and number of the point."""

    moments: list[dict[str, Any]] = field(default_factory=list)
    values: dict[tuple[str | None, str | None], dict[int, dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    missing: dict[tuple[str | None, int], str] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)


def history(
    engine: Engine, question: Question, packs: RulePacks, settings: SituationSettings
) -> dict[str, Any]:
    """The series asked for; districts with `name` and `name_en`.

    Raises InvalidInput naming every fault: an unknown metric, plan or district, a beginning after
    the end, more points than POINTS_MAX or values than VALUES_MAX.
    """
    series = series_of(question.metric, question.plan, question.kinds, packs)
    with reading(engine, snapshot=True) as connection:
        now: datetime = connection.execute(text("SELECT now()")).scalar_one()
        begin, end, every = _times(question, now)
        _check_districts(connection, question.adcodes)
        own = points(connection, moments(begin, end, every), packs)
        names = _districts(connection, own)
        wanted: list[str | None] = list(names) if question.everywhere else list(question.adcodes)
        wanted = wanted or [None]
        if len(own) * len(wanted) > VALUES_MAX:
            reason = (
                f"{len(wanted)} districts at {len(own)} points are more than {VALUES_MAX} values;"
                " ask for fewer districts or a longer every"
            )
            raise InvalidInput([Fault(reason, None, "every")])
        answer = _Answer()
        for segment in segments(own):
            _walk(connection, segment, series, wanted, settings, answer)
    return {
        "metric": question.metric,
        "plan": question.plan,
        "kinds": list(series.kinds(own[-1]) or ()),
        "unit": series.unit,
        "from": begin.isoformat(),
        "to": end.isoformat(),
        "every_s": every.total_seconds(),
        "as_of": answer.moments[-1]["as_of"],
        "sequence": answer.moments[-1]["sequence"],
        "moments": answer.moments,
        "reports": answer.reports,
        "series": [
            {
                "adcode": adcode,
                "name": names.get(adcode or "", {}).get("name"),
                "name_en": names.get(adcode or "", {}).get("name_en"),
                **({"operator": operator} if series.per_operator else {}),
                "points": _points(answer, adcode, operator),
            }
            for adcode in wanted
            for operator in _operators(answer, adcode)
        ],
    }


def _times(question: Question, now: datetime) -> tuple[datetime, datetime, timedelta]:
    """Begin, end and step; what is not said is the last 24 hours in POINTS_USUAL steps. Of what
    lies ahead nothing is known yet: the series ends now."""
    end = min(question.end or now, now)
    begin = question.begin or end - SPAN_USUAL
    if begin > end:
        raise InvalidInput([Fault("is later than to", None, "from")])
    span_s = (end - begin).total_seconds()
    every = question.every or timedelta(seconds=max(1, -(-span_s // POINTS_USUAL)))
    count = (end - begin) // every + 1
    if count > POINTS_MAX:
        least_s = int(-(-span_s // (POINTS_MAX - 2)))
        reason = f"gives {count} points; at most {POINTS_MAX} are answered: {least_s}s would do"
        raise InvalidInput([Fault(reason, None, "every")])
    return begin, end, every


def _check_districts(connection: Connection, adcodes: Collection[str]) -> None:
    """Raise InvalidInput for a code that no division version has."""
    known = set(connection.execute(text("SELECT DISTINCT adcode FROM district")).scalars())
    strange = sorted(set(adcodes) - known)
    if strange:
        named = ", ".join(strange[:10])
        raise InvalidInput([Fault(f"no divisions have a district {named}", None, "adcode")])


def _districts(connection: Connection, own: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """The districts that were in force at some point, by code; the newest name counts."""
    versions = {p.version.id: p.version for p in own if p.version is not None}
    found: dict[str, dict[str, Any]] = {}
    for version in sorted(versions.values(), key=lambda v: v.valid_from):
        found |= {row["adcode"]: row for row in district_rows(connection, version.id)}
    return dict(sorted(found.items()))


def _walk(
    connection: Connection,
    own: Sequence[Point],
    series: Series,
    wanted: Sequence[str | None],
    settings: SituationSettings,
    answer: _Answer,
) -> None:
    """Points that have the same divisions and rules."""
    version = own[0].version
    if version is None:
        for point in own:
            for adcode in wanted:
                answer.missing[adcode, len(answer.moments)] = "no_divisions"
            answer.moments.append(_moment(point, None, settings))
        answer.reports = []
        return
    counts = CountHistory(connection, own, version.id, settings.silent_after_minutes)
    codes = [row["adcode"] for row in district_rows(connection, version.id)]
    there = [adcode for adcode in wanted if adcode is None or adcode in codes]
    track = series.begin(connection, own, codes, counts)
    for number, (point, counted) in enumerate(zip(own, counts.walk(), strict=True)):
        position = len(answer.moments)
        answer.moments.append(_moment(point, counted, settings))
        for adcode, operator, value in track.values(number, point, counted, there):
            answer.values[adcode, operator][position] = value
        for adcode in wanted:
            if adcode is not None and adcode not in codes:
                answer.missing[adcode, position] = "no_district"
    answer.reports = _reports(own[-1], counted, settings)


def _moment(point: Point, counted: Counted | None, settings: SituationSettings) -> dict[str, Any]:
    """Of what a point is, and who was not heard then: never shown as zero."""
    overdue = counted.overdue(point.at, settings.silent_after_minutes) if counted else []
    return {
        "at": point.at.isoformat(),
        "sequence": point.sequence,
        "as_of": point.as_of.isoformat(),
        "divisions": point.version.label if point.version else None,
        "silent": sorted(counted.silent) if counted else [],
        "overdue": [{"operator": operator, "kind": kind} for operator, kind in overdue],
    }


def _reports(point: Point, counted: Counted, settings: SituationSettings) -> list[dict[str, Any]]:
    """What each operator's figures rest on at a point, and how old that is; also of those of whom
    there are facilities and nothing was ever heard."""
    overdue = set(counted.overdue(point.at, settings.silent_after_minutes))
    sources = {(s.operator, s.kind): s for s in counted.sources if s.operator}
    rows = []
    for operator, kind in sorted(sources.keys() | overdue):
        one = sources.get((operator, kind))
        observed, heard = (one.observed_at, one.heard_at) if one else (None, None)
        rows.append(
            {
                "operator": operator,
                "kind": kind,
                "source": one.kind_of_source if one else None,
                "observed_at": observed.isoformat() if observed else None,
                "heard_at": heard.isoformat() if heard else None,
                "age_s": age_s(point.at, [heard] if heard else []),
                "silent": operator in counted.silent,
                "overdue": (operator, kind) in overdue,
            }
        )
    return rows


def _operators(answer: _Answer, adcode: str | None) -> list[str | None]:
    """The operators that have a series of a district, None where it has but one."""
    found = {operator for code, operator in answer.values if code == adcode}
    return sorted(found - {None}, key=str) or [None]


def _points(answer: _Answer, adcode: str | None, operator: str | None) -> list[dict[str, Any]]:
    values: Mapping[int, dict[str, Any]] = answer.values.get((adcode, operator), {})
    found = []
    for number, moment in enumerate(answer.moments):
        value = values.get(number)
        if value is None:  # of the district nothing can be said then, or of this operator in it
            whole = answer.values.get((adcode, None), {}).get(number, {}).get("reason")
            reason = answer.missing.get((adcode, number)) or whole or "no_facility"
            value = {"value": None, "reason": reason}
        found.append({"at": moment["at"], **value})
    return found
