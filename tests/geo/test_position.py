"""Positions as people type them: read alike in every notation, and never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.crs import from_wgs84
from geo.errors import CrsError, InvalidInput
from geo.position import other_readings, read_position

PLACE = (106.5516, 29.5630)
LON = st.floats(105.3, 110.1)
LAT = st.floats(28.2, 32.2)


def sexagesimal(degrees: float) -> tuple[int, int, float]:
    """Whole degrees and minutes, and seconds to a hundred-thousandth, carried over."""
    units = round(degrees * 3600 * 100_000)
    minutes, rest = divmod(units, 60 * 100_000)
    return minutes // 60, minutes % 60, rest / 100_000


@pytest.mark.parametrize(
    "text",
    [
        "106.5516,29.5630",
        "106.5516 29.5630",
        "(106.5516; 29.5630)",
        "１０６．５５１６，２９．５６３０",
        "106.5516、29.5630",
        "106.5516°；29.5630°",
        "29.5630N 106.5516E",
        "N29.5630,E106.5516",
        "n29.5630e106.5516",
        "北纬29.5630度，东经106.5516度",
        "东经106.5516 北纬29.5630",
        "纬度：29.5630，经度：106.5516",
        "lat=29.5630, lng=106.5516",
        "东经106°33′05.76″ 北纬29°33′46.8″",
        "106度33分5.76秒，29度33分46.8秒",
        "29º33'46.8\"N, 106º33'5.76\"E",
        "29°33'46.8''N 106°33'5.76''E",
        "29°33.78′N 106°33.096′E",
        "E106°33.096 N29°33.78",
        "29 33 46.8N 106 33 05.76E",
        "N29 33 46.8, E106 33 5.76",
        "N29-33-46.8 E106-33-5.76",
        "106-33-5.76，29-33-46.8",
        "E106 33.096 N29 33.78",
        "29°33′46.8″北 106°33′5.76″东",
        "106.5516，29.5630。",
        "经度106.5516纬度29.5630",
        "东经一百零六度三十三分五点七六秒，北纬二十九度三十三分四十六点八秒",
        "北纬二十九点五六三〇度 东经一百零六点五五一六度",
        "一零六度三三分五点七六秒，二九度三三分四六点八秒",
        "东经106度三十三分5.76秒 北纬二九度33分四十六点八秒",
    ],
)
def test_what_people_type_is_the_same_place(text: str) -> None:
    read = read_position(text, "WGS84")
    assert read.place == pytest.approx(PLACE, abs=1e-9)
    assert read.original == text
    assert read.hints == ()


@given(LON, LAT, st.sampled_from(["decimal", "minutes", "seconds"]), st.booleans())
def test_what_is_written_out_reads_back(lon: float, lat: float, how: str, latin: bool) -> None:
    def written(degrees: float) -> str:
        if how == "decimal":
            return f"{degrees:.9f}"
        if how == "minutes":
            units = round(degrees * 60 * 10**7)
            whole, rest = divmod(units, 60 * 10**7)
            return f"{whole}°{rest / 10**7:.7f}′"
        d, m, s = sexagesimal(degrees)
        return f"{d}°{m}′{s:.5f}″"

    text = (
        f"{written(lat)}N {written(lon)}E" if latin else f"东经{written(lon)}，北纬{written(lat)}"
    )
    assert read_position(text, "WGS84").place == pytest.approx((lon, lat), abs=1e-8)


@given(st.text(max_size=60) | st.text("0123456789.,°'\"NEnse北纬东经 -+", max_size=40))
def test_any_text_is_a_position_or_a_named_fault(text: str) -> None:
    try:
        read = read_position(text, "WGS84")
    except InvalidInput as error:
        fields = [fault.field for fault in error.faults]
    else:
        fields = ["position"] if read.place is not None and read.original == text else []
    assert fields == ["position"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("29.5630,106.5516", "exchanged"),
        ([29.5630, 106.5516], "exchanged"),
        ("29.5N 29.6N", "same axis"),
        ("-29.5N 106.5E", "sign and a hemisphere"),
        ("29°61'N 106°33'E", "60 or more"),
        ("29.5°30'N 106°33'E", "fraction"),
        ("106.5516", "cannot be read"),
        ("106 33 5.76 29 33 46.8", "cannot be read"),
        ("106-33-5.76-29-33-46.8", "cannot be read"),
        ("N29 61 00 E106 33 05", "60 or more"),
        ("解放碑", "cannot be read"),
        ("", "cannot be read"),
        ("1" * 201, "longer"),
        ([10**400, 29], "out of range"),
        (["106.5", "29.5"], "two numbers"),
        ([True, 29.5], "two numbers"),
        ({"x": 1}, "two numbers"),
    ],
)
def test_what_is_no_position_says_what_would_be_right(value: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_position(value, "WGS84")


def test_a_system_must_be_known() -> None:
    with pytest.raises(CrsError):
        read_position("106.5,29.5", "Beijing54")


@pytest.mark.parametrize(
    ("text", "coarse"),
    [("106.55,29.56", True), ("106.551,29.56", False), ("29°33'N 106°33'E", True),
     ("29°33.78'N 106°33.09'E", False), ("29°33'46\"N 106°33'5\"E", False)],
)  # fmt: skip
def test_a_position_coarser_than_a_thousandth_of_a_degree_says_so(text: str, coarse: bool) -> None:
    assert ("coordinate_imprecise" in read_position(text, "WGS84").hints) is coarse


@pytest.mark.parametrize("crs", ["GCJ-02", "BD-09", "CGCS2000"])
def test_text_is_read_in_the_declared_system(crs: str) -> None:
    x, y = from_wgs84(*PLACE, crs)
    assert read_position(f"{x:.9f},{y:.9f}", crs).place == pytest.approx(PLACE, abs=1e-8)


@given(
    st.floats(-1.9, 1.9),
    LAT,
    st.sampled_from([(4523, 4544, 105), (4524, 4545, 108), (4525, 4546, 111)]),
)
def test_metres_with_their_zone_are_placed_and_without_it_are_not(
    offset: float, lat: float, zone: tuple[int, int, int]
) -> None:
    prefixed, bare, meridian = zone
    lon = meridian + offset
    east, north = from_wgs84(lon, lat, f"EPSG:{prefixed}")
    short, _ = from_wgs84(lon, lat, f"EPSG:{bare}")
    for crs in ("CGCS2000", f"EPSG:{prefixed}", f"EPSG:{bare}"):
        given = read_position([east, north], crs)
        assert given.place == pytest.approx((lon, lat), abs=1e-9)
        assert (given.original, given.notation) == ([east, north], "array")
        read = read_position(f"{east:.4f} {north:.4f}", crs)
        assert read.place == pytest.approx((lon, lat), abs=1e-7)
        assert (read.crs, read.notation) == (crs, "metres")
    bare_text = f"{short:.4f},{north:.4f}"
    assert read_position(bare_text, f"EPSG:{bare}").place == pytest.approx((lon, lat), abs=1e-7)
    for crs in ("CGCS2000", f"EPSG:{prefixed}"):
        lost = read_position([short, north], crs)
        assert (lost.place, lost.hints) == (None, ("zone_prefix_missing",))
    lost = read_position(bare_text, "CGCS2000")
    assert (lost.place, lost.hints) == (None, ("zone_prefix_missing",))


@pytest.mark.parametrize(
    ("text", "crs", "reason"),
    [
        ("3270000,36360000", "CGCS2000", "north before east"),
        ("35360000,3270000", "EPSG:4545", "zone 36"),
        ("99360000,3270000", "CGCS2000", "no zone"),
        ("106.5516,29.5630", "EPSG:4545", "in metres"),
    ],
)
def test_metres_that_contradict_their_system_are_refused(text: str, crs: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_position(text, crs)


@pytest.mark.parametrize("crs", ["WGS84", "CGCS2000", "EPSG:4490", "GCJ-02", "BD-09"])
def test_degrees_may_be_in_another_datum_and_only_in_another(crs: str) -> None:
    others = other_readings("106.5516,29.5630", crs)
    wgs84 = {"WGS84", "CGCS2000", "EPSG:4490"}
    assert set(others) == {"WGS84", "GCJ-02", "BD-09"} - (wgs84 if crs in wgs84 else {crs})
    for other, place in others.items():
        assert place == read_position("106.5516,29.5630", other).place


def test_metres_without_a_prefix_may_be_in_another_zone() -> None:
    east, north = from_wgs84(*PLACE, "EPSG:4545")
    others = other_readings([east, north], "EPSG:4544")
    assert set(others) == {"EPSG:4545", "EPSG:4546"}
    assert others["EPSG:4545"] == pytest.approx(PLACE, abs=1e-9)
    prefixed, _ = from_wgs84(*PLACE, "EPSG:4524")
    assert other_readings([prefixed, north], "EPSG:4524") == {}
    assert other_readings([prefixed, north], "CGCS2000") == {}


@pytest.mark.parametrize(
    ("words", "number"),
    [("零", "0"), ("五", "5"), ("十", "10"), ("十三", "13"), ("二十", "20"), ("二十九", "29"), ("一百", "100"),
     ("一百零六", "106"), ("一百一十", "110"), ("一百一十六", "116"), ("一〇六", "106"), ("一百八十", "180")],
)  # fmt: skip
def test_a_number_in_words_is_that_number(words: str, number: str) -> None:
    assert outcome(f"{words}度，29.5度") == outcome(f"{number}度，29.5度")


def outcome(text: str) -> Any:
    try:
        return read_position(text, "WGS84").place
    except InvalidInput as error:
        return str(error)


@pytest.mark.parametrize(
    "words",
    ["一百六", "一百零", "一百十", "十十", "一二三四", "一百零六点", "点五", "二十点十", "一百百"],
)
def test_words_that_could_be_two_numbers_are_refused_with_the_remedy(words: str) -> None:
    with pytest.raises(InvalidInput, match="in words that cannot be read for certain; use digits"):
        read_position(f"东经{words}度三十三分 北纬二十九度三十三分", "WGS84")


def test_the_name_of_a_map_is_no_number() -> None:
    with pytest.raises(InvalidInput, match="cannot be read as a position"):
        read_position("百度 106.55,29.56", "BD-09")
