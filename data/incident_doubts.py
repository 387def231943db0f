"""What is doubtful about where an incident was placed, with the likely cause; nothing is guessed.

A position is placed by what was declared and by nothing else. Where it lands outside the city, in
another district than the address names, or, with no system declared, where another datum would have
put it into another district, the other readings are tried only to say so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from geo.position import other_readings

KeptWarning = str | dict[str, Any]

#: The districts in force.
_NAMES = """
SELECT d.adcode, d.name, coalesce(d.name_en, d.name) AS name_en
 FROM district d JOIN division_version v ON v.id = d.version_id
 WHERE v.valid_from <= now() AND (v.valid_to IS NULL OR v.valid_to > now())
"""
#: The rule of `geo.assign` for several places at once: the smallest adcode whose closed area covers
#: the point. District by district, so that PostGIS prepares each outline once.
_PLACES = """
WITH v AS (SELECT id FROM division_version
   WHERE valid_from <= now() AND (valid_to IS NULL OR valid_to > now())),
 p AS MATERIALIZED (SELECT n, ST_SetSRID(ST_MakePoint(lon, lat), 4326) AS geom FROM
   unnest(CAST(:lon AS float8[]), CAST(:lat AS float8[])) WITH ORDINALITY AS u(lon, lat, n)),
 d AS (SELECT p.n, min(district.adcode) AS adcode FROM v JOIN district ON version_id = v.id
   JOIN p ON ST_Covers(district.geom, p.geom) GROUP BY p.n),
 z AS (SELECT p.n, min(unit.code) AS code FROM v JOIN unit ON version_id = v.id
   AND kind = 'functional_zone' JOIN p ON ST_Covers(unit.geom, p.geom) GROUP BY p.n)
SELECT d.adcode, coalesce(z.code, d.adcode) AS unit
 FROM p LEFT JOIN d USING (n) LEFT JOIN z USING (n) ORDER BY p.n
"""


@dataclass(frozen=True)
class DoubtedPlace:
    """What is known of one place: the district it lies in, None for outside, and how it was said.

    `numbers` is the position as given in `crs`, None when something else placed it; `declared`
    whether anybody stated the system; `words` are where the address may name a district.
    """

    adcode: str | None
    numbers: Any
    crs: str | None
    declared: bool
    words: str


def districts_at(
    connection: Connection, places: Sequence[tuple[float, float]]
) -> list[tuple[str | None, str | None]]:
    """(adcode, unit) of each WGS-84 longitude, latitude, in the divisions in force now."""
    if not places:
        return []
    rows = connection.execute(
        text(_PLACES), {"lon": [lon for lon, _ in places], "lat": [lat for _, lat in places]}
    )
    return [(row.adcode, row.unit) for row in rows]


def placement_doubts(
    connection: Connection, places: Sequence[DoubtedPlace]
) -> list[list[KeptWarning]]:
    """The warnings on each place.

    Each is a code, or {code, here, otherwise: [{crs, district}]} naming the districts, both as
    [Chinese, English] and null for outside the city.
    """
    names = {row.adcode: [row.name, row.name_en] for row in connection.execute(text(_NAMES))}
    named = [{code for code, (zh, _) in names.items() if zh in one.words} for one in places]
    doubted = [
        one.adcode is None or not one.declared or bool(there and one.adcode not in there)
        for one, there in zip(places, named, strict=True)
    ]
    readings = [
        other_readings(one.numbers, one.crs)
        if doubt and one.numbers is not None and one.crs is not None
        else {}
        for one, doubt in zip(places, doubted, strict=True)
    ]
    found = iter(districts_at(connection, [place for read in readings for place in read.values()]))
    others = [{crs: next(found)[0] for crs in read} for read in readings]
    return [
        _with_names(names, one.adcode, _doubts(one, there, read)) if doubt else []
        for one, there, read, doubt in zip(places, named, others, doubted, strict=True)
    ]


def _doubts(
    place: DoubtedPlace, named: Collection[str], read: Mapping[str, str | None]
) -> list[tuple[str, dict[str, str | None]]]:
    """Codes of the doubts, each with the district that another system would give."""
    adcode = place.adcode
    found: list[tuple[str, dict[str, str | None]]] = []
    if adcode is None:
        found.append(("outside", {crs: code for crs, code in read.items() if code}))
    if named and adcode not in named:
        within = {crs: code for crs, code in read.items() if code in named}
        found.append(("far_from_named_district", within))
    if not place.declared and adcode is not None:
        others = {crs: code for crs, code in read.items() if code != adcode}
        if others:
            found.append(("datum_undeclared_near_border", others))
    return found


def _with_names(
    names: Mapping[str, list[str]],
    adcode: str | None,
    found: Sequence[tuple[str, dict[str, str | None]]],
) -> list[KeptWarning]:
    return [
        {
            "code": code,
            "here": names.get(adcode or ""),
            "otherwise": [
                {"crs": crs, "district": names.get(other or "")} for crs, other in others.items()
            ],
        }
        if others
        else code
        for code, others in found
    ]


_SYSTEMS: Mapping[str, tuple[str, str]] = {
    "GCJ-02": ("GCJ-02（高德、腾讯、微信）", "GCJ-02 (AMap, Tencent, WeChat)"),
    "BD-09": ("BD-09（百度）", "BD-09 (Baidu)"),
    "WGS84": ("WGS-84（手机、北斗）", "WGS-84 (phones, Beidou)"),
}
_OUTSIDE = ("重庆市外", "no district of Chongqing")
#: Code → Chinese and English, `{here}` for the district.
WARNINGS: Mapping[str, tuple[str, str]] = {
    "outside": (
        "位置在重庆市以外，请核对坐标和坐标系",
        "the position is outside Chongqing; check the numbers and their datum",
    ),
    "unplaced": ("没有位置，无法落图", "there is no position to place it by"),
    "placed_by_facility": ("按设施的位置落图", "placed where the facility is"),
    "placed_by_rescue_code": (
        "按救援识别码对应的电梯落图",
        "placed where the lift of this rescue code is",
    ),
    "zone_prefix_missing": (
        "坐标缺少带号，无法据此确定位置；请补上带号或声明 EPSG:4544、4545 或 4546",
        "the numbers lack the prefix of their zone and place nothing; add it or declare"
        " EPSG:4544, 4545 or 4546",
    ),
    "coordinate_imprecise": (
        "坐标精度粗于约 100 米（不足三位小数），请核对",
        "the position is coarser than about 100 m (fewer than three decimals); check it",
    ),
    "far_from_named_district": (
        "坐标不在地址所写的区县内，请核对坐标、坐标系和地址",
        "the position is not in the district the address names; check numbers, datum and address",
    ),
    "datum_undeclared_near_border": (
        "未声明坐标系，按 WGS-84 落在{here}；靠近区县边界，请声明坐标系",
        "no datum is declared; as WGS-84 it is in {here}, close to a border: declare the datum",
    ),
    "facility_unknown": ("清单中没有这个设施", "the facility is not in the inventory"),
}
_RESCUE_CODE = re.compile("[0-9]{6}")
_RESCUE_CODE_TRIED = (
    "；六位数字也按救援识别码查过，没有电梯用这个码",
    "; as six digits it was tried as a rescue code too, and no lift has it",
)


def unknown_facility(named: str) -> KeptWarning:
    """The warning on a facility that nobody knows, saying what its name was tried as."""
    if _RESCUE_CODE.fullmatch(named):
        return {"code": "facility_unknown", "tried": "rescue_code"}
    return "facility_unknown"


def warning_texts(stored: Sequence[KeptWarning], lang: str) -> list[dict[str, str]]:
    """[{code, text}] of what `placement_doubts` and the store kept, in `zh` or `en`."""
    column = int(lang == "en")
    return [_worded({"code": one} if isinstance(one, str) else one, column) for one in stored]


def _worded(warning: Mapping[str, Any], column: int) -> dict[str, str]:
    code = warning["code"]
    here = (warning.get("here") or _OUTSIDE)[column]
    said = WARNINGS[code][column].format(here=here)
    if warning.get("tried") == "rescue_code":
        said += _RESCUE_CODE_TRIED[column]
    for other in warning.get("otherwise", ()):
        system = _SYSTEMS.get(other["crs"], (other["crs"],) * 2)[column]
        district = (other["district"] or _OUTSIDE)[column]
        said += (f"；若为 {system}，则在{district}", f"; in {system} it would be in {district}")[
            column
        ]
    return {"code": code, "text": said}
