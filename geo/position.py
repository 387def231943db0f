"""A position as people give it: two numbers, or text as typed on a phone or copied from a map.

Read are decimal degrees, degrees and minutes, degrees, minutes and seconds, each with or without a
hemisphere (N, E, 北纬, 东经) before or after both numbers, in full width too, and metres east and
north of a Gauss-Krüger zone. Blanks or dashes may stand for the units' signs where a hemisphere or
a comma parts the two. Numbers before 度, 分 and 秒 may be spelled out in Chinese. The order is
longitude, latitude unless both numbers carry a mark.

Nothing is guessed: what cannot be read, or lies in Chongqing only with its numbers exchanged, is an
InvalidInput naming what would be right. Metres without the prefix of their zone could lie in any of
twenty: such a position is kept as given, without a place, with the hint `zone_prefix_missing`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from geo.crs import BD09, CGCS2000, GCJ02, WGS84, parse_crs, swapped_hint, to_wgs84
from geo.errors import Fault, InvalidInput

Hint = Literal["zone_prefix_missing", "coordinate_imprecise"]
Notation = Literal[
    "array", "decimal_degrees", "degrees_minutes", "degrees_minutes_seconds", "metres"
]
CHARACTERS_MAX: Final = 200
#: Steps of the last digit above this many degrees (about 110 m of latitude) are imprecise.
_COARSE_DEG: Final = 0.001
_RIGHT: Final = (
    "give [longitude, latitude] or a text such as 106.5516,29.5630, 29.5630N 106.5516E"
    " or 东经106°33′05.8″ 北纬29°33′46.8″"
)


#: Whole metres of a Gauss-Krüger zone have six to eight digits, degrees never.
_METRES_MIN: Final = 1e5
_METRES_MAX: Final = 1e8
_WGS84_DEGREES: Final = frozenset({WGS84, CGCS2000, "EPSG:4326", "EPSG:4490"})
_DATUMS: Final = (WGS84, GCJ02, BD09)
_ZONES: Final = ("EPSG:4544", "EPSG:4545", "EPSG:4546")


@dataclass(frozen=True, slots=True)
class Position:
    """A position and how it was given.

    `place` is longitude, latitude in WGS-84 degrees, None when the zone of its metres is unknown.
    `crs` is the system as declared, canonical; `original` what was given, unchanged.
    """

    place: tuple[float, float] | None
    original: str | list[float]
    crs: str
    notation: Notation
    hints: tuple[Hint, ...] = ()


def read_position(value: Any, crs: str | None) -> Position:
    """The position in an array [x, y] or [x, y, height] or in text, given in `crs`.

    Raises CrsError for the system, InvalidInput for what is no position in it.
    """
    system = parse_crs(crs)
    if isinstance(value, str):
        return _read_text(value, system)
    numbers = isinstance(value, list) and len(value) in (2, 3)
    if not numbers or not all(type(n) in (int, float) for n in value):
        _refuse(f"must be [longitude, latitude], two numbers, or a text; {_RIGHT}")
    try:
        x, y = float(value[0]), float(value[1])
    except OverflowError:
        _refuse(f"is out of range; {_RIGHT}")
    if _zoned(system) and all(_METRES_MIN <= abs(n) < _METRES_MAX for n in (x, y)):
        return _read_metres(x, y, value, system, "array")
    return Position(_placed(x, y, system), value, system, "array")


def other_readings(value: Any, crs: str) -> dict[str, tuple[float, float]]:
    """System → WGS-84 place of the same numbers in each other system they are likely to be in.

    Degrees may be in any of the datums, metres without the prefix of their zone in any of the three
    zones of the city. Where `value` is no position in one of them, it has no entry.
    """
    system = parse_crs(crs)
    same = WGS84 if system in _WGS84_DEGREES else system
    alike = next((group for group in (_DATUMS, _ZONES) if same in group), ())
    told = read_position(value, system).place
    found: dict[str, tuple[float, float]] = {}
    for other in alike:
        if other == same:
            continue
        try:
            read = read_position(value, other)
        except InvalidInput:
            continue
        if read.place is not None and read.place != told:
            found[other] = read.place
    return found


# --- text -----------------------------------------------------------------------------------------

_BEFORE_FOLDING: Final = str.maketrans(
    {"º": "°", "˚": "°", "″": '"', "′": "'", "＇": "'", "＂": '"', "’": "'", "‘": "'", "”": '"',
     "“": '"', "度": "°", "分": "'", "秒": '"', "−": "-", "–": "-", "、": ",", "，": ",", "；": ";"}
)  # fmt: skip
#: Numbers in words: 一百零六, 二十九 or, digit by digit, 一〇六; with 点 and digits behind. What
#: could be two numbers is none: 一百六 is 160 in speech only. 百度 is a map.
_SPELLED: Final = re.compile("(?!百度)[〇零一二两三四五六七八九十百点]+(?=[度分秒])")
_FIGURES: Final = "一二三四五六七八九"
_DIGIT: Final = {word: str(value) for value, word in enumerate("零" + _FIGURES)} | {"〇": "0"}
_WHOLE: Final = re.compile(
    f"([{_FIGURES}])百(?:零([{_FIGURES}])|([{_FIGURES}])十([{_FIGURES}])?)?"
    f"|([{_FIGURES}])?(十)([{_FIGURES}])?"
)
_MARKS: Final = (
    ("北纬", "N"), ("南纬", "S"), ("东经", "E"), ("西经", "W"), ("纬°", "φ"), ("经°", "λ"),
    ("北", "N"), ("东", "E"),
    ("LATITUDE", "φ"), ("LONGITUDE", "λ"), ("LAT", "φ"), ("LON", "λ"), ("LNG", "λ"),
)  # fmt: skip
_NUMBER = r"\d{1,9}(?:\.\d{1,20})?"
_ANGLE = (
    rf"(?P<sign%d>[+-]?)(?P<d%d>{_NUMBER})"
    rf"(?:\s*°(?:\s*(?P<m%d>{_NUMBER})\s*(?:'(?:\s*(?P<s%d>{_NUMBER})\s*(?:\"|'')?)?)?)?)?"
)
# 29 33 46.8 or 29-33-46.8: without signs for the units, so only where nothing else could be meant
_BARE = rf"(?P<sign%d>)(?P<d%d>\d{{1,3}})%s(?P<m%d>{_NUMBER})(?:%s(?P<s%d>{_NUMBER}))?"
_SPACED, _DASHED = _BARE.replace("%s", r"(?:\s+|-)"), _BARE.replace("%s", "-")
_LABEL = r"(?P<mark%d>[NSEWφλ])\s*[:=]?\s*"
_AFTER = r"\s*(?P<mark%d>[NSEW])"
_BETWEEN = r"(?:\s*[,;/]\s*|\s+)"
_NOTHING_OR_BETWEEN = r"(?:\s*[,;/]\s*|\s*)"
_PAIRS: Final = tuple(
    re.compile(pattern.replace("%a", first).replace("%b", second), re.ASCII)
    for pattern, angles in (
        ("%a" + _BETWEEN + "%b", (_ANGLE, _DASHED)),
        (_LABEL.replace("%d", "1") + "%a" + _NOTHING_OR_BETWEEN + _LABEL.replace("%d", "2") + "%b",
         (_ANGLE, _SPACED)),
        ("%a" + _AFTER.replace("%d", "1") + _NOTHING_OR_BETWEEN + "%b" + _AFTER.replace("%d", "2"),
         (_ANGLE, _SPACED)),
    )
    for first, second in ((one.replace("%d", "1"), one.replace("%d", "2")) for one in angles)
)  # fmt: skip
_BRACKETS: Final = {"(": ")", "[": "]"}


def _read_text(given: str, system: str) -> Position:
    if len(given) > CHARACTERS_MAX:
        _refuse(f"is longer than {CHARACTERS_MAX} characters; {_RIGHT}")
    folded = (
        unicodedata.normalize("NFKC", _in_digits(given).translate(_BEFORE_FOLDING))
        .upper()
        .strip(" \t\r\n,;.。")
    )
    for word, mark in _MARKS:
        folded = folded.replace(word, mark)
    if folded and _BRACKETS.get(folded[0]) == folded[-1]:
        folded = folded[1:-1].strip()
    found = next((m for p in _PAIRS if (m := p.fullmatch(folded))), None)
    if found is None:
        _refuse(f"cannot be read as a position; {_RIGHT}")
    part = found.groupdict()
    if _is_metres(part, system):
        east, north = (float((part[f"sign{i}"] or "") + (part[f"d{i}"] or "")) for i in "12")
        return _read_metres(east, north, given, system, "metres")
    if system.startswith("EPSG:") and system not in ("EPSG:4326", "EPSG:4490"):
        if system == "EPSG:3857" or not _looks_like_degrees(part):
            x, y = (float(part[f"sign{i}"] + part[f"d{i}"]) for i in "12")
            return Position(_placed(x, y, system), given, system, "metres")
        _refuse(
            f"is in degrees but {system} is in metres; declare WGS84, CGCS2000, GCJ-02 or BD-09"
        )
    (first, coarse1), (second, coarse2) = _degrees(part, "1"), _degrees(part, "2")
    marks = (part.get("mark1"), part.get("mark2"))
    if marks[0] is not None:
        axes = tuple("lat" if mark in ("N", "S", "φ") else "lon" for mark in marks)
        if axes[0] == axes[1]:
            _refuse(f"names the same axis twice; {_RIGHT}")
        if axes[0] == "lat":
            first, second = second, first
    place = _placed(first, second, system)
    depth = 2 if part["s1"] or part["s2"] else 1 if part["m1"] or part["m2"] else 0
    notation: tuple[Notation, ...] = (
        "decimal_degrees", "degrees_minutes", "degrees_minutes_seconds",
    )  # fmt: skip
    coarse = min(coarse1, coarse2) > _COARSE_DEG * 1.000001
    return Position(
        place, given, system, notation[depth], ("coordinate_imprecise",) if coarse else ()
    )


def _in_digits(given: str) -> str:
    """The text with numbers in words before 度, 分 and 秒 in digits. Raises InvalidInput for words
    that are no number for certain."""

    def digits(found: re.Match[str]) -> str:
        words, point, fraction = found[0].replace("两", "二").partition("点")
        whole = _whole(words)
        if whole is None or bool(point) != bool(fraction) or not set(fraction) <= _DIGIT.keys():
            _refuse(f"has a number in words that cannot be read for certain; use digits; {_RIGHT}")
        return whole + ("." if point else "") + "".join(_DIGIT[one] for one in fraction)

    return _SPELLED.sub(digits, given)


def _whole(words: str) -> str | None:
    """A whole number in words as digits: 0 to 199 and beyond; None for what is none."""
    if words and set(words) <= _DIGIT.keys():
        return "".join(_DIGIT[one] for one in words) if len(words) <= 3 else None
    found = _WHOLE.fullmatch(words)
    if found is None:
        return None
    hundreds, units, tens, units_of_tens, tens_alone, ten, units_of_ten = found.groups("零")
    size = 100 * int(_DIGIT[hundreds])
    if ten == "十":
        return str(
            10 * int(_DIGIT[tens_alone] if tens_alone != "零" else 1) + int(_DIGIT[units_of_ten])
        )
    return str(size + 10 * int(_DIGIT[tens]) + int(_DIGIT[units]) + int(_DIGIT[units_of_tens]))


def _degrees(part: dict[str, str | None], which: str) -> tuple[float, float]:
    """Signed degrees, and the degrees one step of the last digit given stands for."""
    sign, mark = part[f"sign{which}"] or "", part.get(f"mark{which}")
    texts = [t for t in (part[f"d{which}"], part[f"m{which}"], part[f"s{which}"]) if t]
    if sign and mark in ("N", "S", "E", "W"):
        _refuse("has both a sign and a hemisphere; leave one out")
    if any("." in text for text in texts[:-1]):
        _refuse("has a fraction before its last unit: 29.5°30′ is two statements; give 29°30′")
    numbers = [float(text) for text in texts]
    if any(number >= 60 for number in numbers[1:]):
        _refuse("has minutes or seconds of 60 or more; they run from 0 to 59.99…")
    size = math.fsum(number / 60**power for power, number in enumerate(numbers))
    decimals = len(texts[-1].partition(".")[2])
    negative = sign == "-" or mark in ("S", "W")
    return (-size if negative else size), 10.0**-decimals / 60 ** (len(texts) - 1)


# --- metres ---------------------------------------------------------------------------------------


def _looks_like_degrees(part: dict[str, str | None]) -> bool:
    marked = any(part.get(name) for name in ("mark1", "mark2", "m1", "m2"))
    return marked or all(float(part[f"d{i}"] or 0) <= 180 for i in "12")


def _is_metres(part: dict[str, str | None], system: str) -> bool:
    """Whether two numbers of six to eight digits are given in CGCS2000 or a zone of it."""
    if not _zoned(system):
        return False
    long = all(6 <= len((part[f"d{i}"] or "").partition(".")[0]) <= 8 for i in "12")
    return long and not _looks_like_degrees(part)


def _zoned(system: str) -> bool:
    return system == CGCS2000 or 4490 <= _epsg(system) <= 4554


def _epsg(system: str) -> int:
    return int(system[5:]) if system.startswith("EPSG:") else 0


def _prefix_of(epsg: int) -> tuple[int, bool] | None:
    """The zone of a CGCS2000 system and whether its eastings begin with that number.

    EPSG 4491–4501 are the 6° zones 13–23 and 4513–4533 the 3° zones 25–45, both with the prefix;
    4502–4512 and 4534–4554 the same zones without.
    """
    for start, stop, zone, prefixed in (
        (4491, 4502, 13, True), (4502, 4513, 13, False),
        (4513, 4534, 25, True), (4534, 4555, 25, False),
    ):  # fmt: skip
        if start <= epsg < stop:
            return epsg - start + zone, prefixed
    return None


def _read_metres(
    east: float, north: float, given: str | list[float], system: str, notation: Notation
) -> Position:
    if 1e6 <= east < 1e7 and (north >= 1e7 or 1e5 <= north < 1e6):
        _refuse("gives north before east; give the easting first, then the northing")
    zone = int(east // 1e6) if east >= 1e7 else None
    declared = _prefix_of(_epsg(system))
    if zone is None:
        if declared is None or declared[1]:
            return Position(None, given, system, notation, ("zone_prefix_missing",))
        return Position(_placed(east, north, system), given, system, notation)
    if declared is not None and declared[0] != zone:
        _refuse(f"begins with zone {zone} but {system} is zone {declared[0]}; one of them is wrong")
    if zone in range(13, 24):
        prefixed = 4491 + zone - 13
    elif zone in range(25, 46):
        prefixed = 4513 + zone - 25
    else:
        _refuse(f"begins with {zone}, no zone of CGCS2000: 6° zones are 13–23, 3° zones 25–45")
    return Position(_placed(east, north, f"EPSG:{prefixed}"), given, system, notation)


def _placed(x: float, y: float, system: str) -> tuple[float, float]:
    if swapped_hint(x, y, system) == "swapped":
        _refuse(
            "lies outside Chongqing, but inside with its numbers exchanged:"
            " give [longitude, latitude]"
        )
    return to_wgs84(x, y, system)


def _refuse(reason: str) -> NoReturn:
    raise InvalidInput([Fault(reason, None, "position")])
