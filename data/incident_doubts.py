"""What is doubtful about where an incident was placed, with the likely cause; nothing is guessed.

A position is placed by what was declared and by nothing else. Where it lands outside the city, in
another district than the address names, or, with no system declared, where another datum would have
put it into another district, the other readings are tried only to say so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from geo.position import other_readings

KeptWarning = str | dict[str, Any]

#: Districts in force whose whole name stands in the words.
_NAMED = """
SELECT d.adcode FROM district d JOIN division_version v ON v.id = d.version_id
 WHERE v.valid_from <= now() AND (v.valid_to IS NULL OR v.valid_to > now())
 AND strpos(:words, d.name) > 0
"""
#: The rule of `geo.assign`, for several places at once.
_DISTRICTS = """
SELECT p.crs, d.adcode FROM
 unnest(CAST(:crs AS text[]), CAST(:lon AS float8[]), CAST(:lat AS float8[])) AS p(crs, lon, lat)
 CROSS JOIN (SELECT id FROM division_version
   WHERE valid_from <= now() AND (valid_to IS NULL OR valid_to > now())) v
 LEFT JOIN LATERAL (SELECT min(adcode) AS adcode FROM district WHERE version_id = v.id
   AND ST_Covers(geom, ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326))) d ON true
"""
_NAMES = """
SELECT d.adcode, d.name, coalesce(d.name_en, d.name) AS name_en
 FROM district d JOIN division_version v ON v.id = d.version_id
 WHERE v.valid_from <= now() AND (v.valid_to IS NULL OR v.valid_to > now())
 AND d.adcode = ANY (:codes)
"""


def placement_doubts(
    connection: Connection,
    adcode: str | None,
    *,
    numbers: Any,
    crs: str | None,
    declared: bool,
    words: str,
) -> list[KeptWarning]:
    """The warnings on an incident placed in `adcode`, None for outside.

    `numbers` is the position as given in `crs`, None when something else placed it; `declared`
    whether anybody stated the system; `words` are where the address may name a district. Each is
    a code, or {code, here, otherwise: [{crs, district}]} naming the districts, both as [Chinese,
    English] and null for outside the city.
    """
    named = set(connection.execute(text(_NAMED), {"words": words}).scalars())
    elsewhere = bool(named) and adcode not in named
    if adcode is not None and not elsewhere and declared:
        return []
    read = {} if numbers is None or crs is None else _read_otherwise(connection, numbers, crs)
    found: list[tuple[str, dict[str, str | None]]] = []
    if adcode is None:
        found.append(("outside", {crs: code for crs, code in read.items() if code}))
    if elsewhere:
        found.append(("far_from_named_district", _within(read, named)))
    if not declared and adcode is not None:
        others = {crs: code for crs, code in read.items() if code != adcode}
        if others:
            found.append(("datum_undeclared_near_border", others))
    return _with_names(connection, adcode, found)


def _read_otherwise(connection: Connection, numbers: Any, crs: str) -> dict[str, str | None]:
    """The district of the same numbers in each other system they could be in."""
    read = other_readings(numbers, crs)
    if not read:
        return {}
    places = {
        "crs": list(read),
        "lon": [lon for lon, _ in read.values()],
        "lat": [lat for _, lat in read.values()],
    }
    rows = connection.execute(text(_DISTRICTS), places)
    by_system = {row.crs: row.adcode for row in rows}
    return {crs: by_system.get(crs) for crs in read}


def _within(read: Mapping[str, str | None], named: Collection[str]) -> dict[str, str | None]:
    return {crs: code for crs, code in read.items() if code in named}


def _with_names(
    connection: Connection, adcode: str | None, found: Sequence[tuple[str, dict[str, str | None]]]
) -> list[KeptWarning]:
    codes = {code for _, others in found for code in (*others.values(), adcode) if code}
    rows = connection.execute(text(_NAMES), {"codes": sorted(codes)}) if codes else ()
    names = {row.adcode: [row.name, row.name_en] for row in rows}
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


def warning_texts(stored: Sequence[KeptWarning], lang: str) -> list[dict[str, str]]:
    """[{code, text}] of what `placement_doubts` and the store kept, in `zh` or `en`."""
    column = int(lang == "en")
    return [_worded({"code": one} if isinstance(one, str) else one, column) for one in stored]


def _worded(warning: Mapping[str, Any], column: int) -> dict[str, str]:
    code = warning["code"]
    here = (warning.get("here") or _OUTSIDE)[column]
    said = WARNINGS[code][column].format(here=here)
    for other in warning.get("otherwise", ()):
        system = _SYSTEMS.get(other["crs"], (other["crs"],) * 2)[column]
        district = (other["district"] or _OUTSIDE)[column]
        said += (f"；若为 {system}，则在{district}", f"; in {system} it would be in {district}")[
            column
        ]
    return {"code": code, "text": said}
