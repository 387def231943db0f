"""The columns of a facility file: their names in files, the words in their cells, the templates.

Headers are recognised in English and Chinese whatever their case, blanks, hyphens and underscores.
What is not recognised is mapped by the person (`FieldSource`), never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from geo.errors import Fault, InvalidInput

#: Kinds of facility and their Chinese names.
KINDS: Final = {
    "base_station": "基站",
    "exchange": "通信机房",
    "data_centre": "数据中心",
    "tower": "铁塔",
    "substation": "变电站",
    "power_plant": "发电厂",
    "special_equipment": "特种设备",
    "key_user": "重要用户",
    "shelter": "应急避难场所",
    "warehouse": "物资储备库",
}

#: Field → names it goes by in files; the first English and the first Chinese one head templates.
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "facility_id": ("facility_id", "设施编号", "id", "编号", "设施ID", "站址编码", "设备编号",
        "站点编号", "站点ID", "站号", "变电站编号", "设备代码", "设施代码"),
    "name": ("name", "名称", "设施名称", "站点名称", "设备名称", "站名", "站点",
        "变电站名称", "基站名称"),
    "kind": ("kind", "类型", "设施类型", "type", "设施类别"),
    "lon": ("lon", "经度", "lng", "long", "longitude", "x", "x坐标", "横坐标", "东坐标",
        "easting", "东经", "gps经度", "X坐标（东）"),
    "lat": ("lat", "纬度", "latitude", "y", "y坐标", "纵坐标", "北坐标", "northing", "北纬",
        "gps纬度", "Y坐标（北）"),
    "crs": ("crs", "坐标系", "坐标系统", "datum", "坐标基准", "基准"),
    "operator": ("operator", "运营商", "运营单位", "权属单位", "使用单位", "运营企业",
        "运营公司", "运营商名称", "所属企业", "所属运营商", "所属单位"),
    "network": ("network", "网络", "所属网络", "网络制式"),
    "unit": ("unit", "单元", "功能区", "所属功能区", "单元代码"),
    "main_grid": ("main_grid", "主网", "是否主网"),
    "load_kw": ("load_kw", "负荷（千瓦）", "负荷千瓦"),
    "customers": ("customers", "供电用户数", "用户数", "用户数量", "供电户数", "用电户数",
        "户数"),
    "population": ("population", "服务人口", "人口", "覆盖人口", "服务人数", "容纳人数"),
    "feeds_from": ("feeds_from", "供电来源", "上级变电站", "供电变电站", "电源来源"),
    "battery_hours": ("battery_hours", "后备电池（小时）", "后备时长（小时）",
        "电池时长（小时）", "备电时长（小时）", "蓄电池时长（小时）"),
    "key_level": ("key_level", "重要级别", "重要等级", "重要性等级", "保障等级"),
    "rescue_code": ("rescue_code", "救援识别码", "救援码", "电梯救援码"),
    "state": ("state", "状态", "state_at_import", "运行状态", "当前状态", "设施状态"),
    "synthetic": ("synthetic", "合成数据", "虚构", "是否合成", "演示数据"),
    "attributes.equipment": ("equipment", "设备种类", "特种设备种类"),
    "attributes.owner": ("owner", "产权单位", "所有权人", "业主单位"),
    "attributes.maintainer": ("maintainer", "维保单位", "维护保养单位", "电梯维保单位"),
}  # fmt: skip
#: Units behind a name. Those of amounts and times must stand there: 负荷 alone could be MW.
_UNITS: Final = (
    (re.compile(r"[(（]\s*[个户人]\s*[)）]$"), ""),
    (re.compile(r"[(（]?\s*(kw|千瓦)\s*[)）]?$", re.IGNORECASE), "kw"),
    (re.compile(r"[(（]\s*(h|小时)\s*[)）]$", re.IGNORECASE), "h"),
)

EQUIPMENT: Final = {
    "boiler": "锅炉", "pressure_vessel": "压力容器", "gas_cylinder": "气瓶",
    "pressure_pipeline": "压力管道", "elevator": "电梯", "crane": "起重机械",
    "passenger_ropeway": "客运索道", "large_amusement_ride": "大型游乐设施",
    "in_plant_vehicle": "场内机动车辆",
}  # fmt: skip

#: Field → word in a cell (lower case) → value.
WORDS: Final[Mapping[str, Mapping[str, object]]] = {
    "kind": {**{k: k for k in KINDS}, **{zh: k for k, zh in KINDS.items()}},
    "state": {
        "up": "up", "正常": "up", "运行": "up",
        "degraded": "degraded", "降级": "degraded",
        "down": "down", "中断": "down", "停运": "down", "停电": "down",
        "unknown": "unknown", "未知": "unknown",
    },
    "key_level": {"district": "district", "区县级": "district", "city": "city", "市级": "city"},
    "main_grid": (_TRUTH := {
        "true": True, "yes": True, "1": True, "是": True,
        "false": False, "no": False, "0": False, "否": False,
    }),
    "synthetic": _TRUTH,
    "attributes.equipment": {
        **{e: e for e in EQUIPMENT}, **{zh: e for e, zh in EQUIPMENT.items()},
        "场（厂）内专用机动车辆": "in_plant_vehicle",
    },
}  # fmt: skip

EXAMPLE_PREFIX: Final = "EXAMPLE-"
"""An id that begins so is a template's example row, which is refused."""

_ATTRIBUTE = re.compile(r"attributes\.[a-z][a-z0-9_]{0,39}")
_CONSTANT = re.compile(r"'([^']*)'")
_SCALED = re.compile(r"(?P<column>.+?)\s*(?P<sign>[*/])\s*(?P<factor>[0-9][0-9.eE+-]*)")


def field_of(header: str) -> str | None:
    """The field a header names, or None."""
    return _FIELDS.get(_plain(header))


def _plain(header: str) -> str:
    bare = header.strip()
    for unit, short in _UNITS:
        bare = unit.sub(short, bare)
    return re.sub(r"[\s_\-]+", "", bare).casefold()


_FIELDS: Final = {_plain(name): field for field, names in HEADERS.items() for name in names}


@dataclass(frozen=True)
class FieldSource:
    """Where a field's values come from: a column, times a factor, or one value for every row."""

    column: str | None
    factor: Decimal | None = None
    constant: str | None = None


def read_mapping(given: Mapping[str, str], headers: Iterable[str]) -> dict[str, FieldSource]:
    """Field → source, from what a person wrote per field.

    `Name` is a column, `Capacity (MW)*1000` a column with a factor (`/60` divides), `'text'` one
    value for every row. A field is one of HEADERS or `attributes.<name>`. Raises InvalidInput
    naming every field at fault.
    """
    columns = list(headers)
    faults: list[Fault] = []
    sources: dict[str, FieldSource] = {}
    for name, expression in given.items():
        field = name if name in HEADERS or _ATTRIBUTE.fullmatch(name) else field_of(name)
        if field is None:
            known = ", ".join(HEADERS)
            faults.append(
                Fault(f"is no field; known are {known} and attributes.<name>", None, name)
            )
            continue
        if field in sources:
            faults.append(Fault("is mapped twice", None, field))
        try:
            sources[field] = _read_source(expression.strip(), columns)
        except ValueError as error:
            faults.append(Fault(str(error), None, field))
    if faults:
        raise InvalidInput(faults)
    return sources


def _read_source(expression: str, columns: list[str]) -> FieldSource:
    if expression in columns:
        return FieldSource(expression)
    constant = _CONSTANT.fullmatch(expression)
    if constant:
        return FieldSource(None, constant=constant[1])
    scaled = _SCALED.fullmatch(expression)
    if scaled and scaled["column"] in columns:
        try:
            factor = Decimal(scaled["factor"])
        except InvalidOperation:
            factor = Decimal(0)
        if not factor.is_finite() or factor <= 0:
            raise ValueError("the factor must be a positive number, as in Capacity*1000")
        return FieldSource(scaled["column"], factor if scaled["sign"] == "*" else 1 / factor)
    known = ", ".join(columns[:40])
    raise ValueError(f"the file has no column {expression[:80]!r}; it has {known}")


# --- templates ------------------------------------------------------------------------------------

_EVERY: Final = ("facility_id", "name", "lon", "lat", "operator", "state")
_OF_KIND: Final = {
    "base_station": ("network", "feeds_from", "battery_hours"),
    "exchange": ("network", "feeds_from", "battery_hours"),
    "data_centre": ("network", "feeds_from", "battery_hours"),
    "tower": ("network",),
    "substation": ("main_grid", "load_kw", "customers"),
    "power_plant": ("main_grid",),
    "special_equipment": (
        *("attributes.equipment", "rescue_code", "attributes.owner", "attributes.maintainer"),
        "feeds_from",
    ),
    "key_user": ("key_level", "population", "feeds_from"),
    "shelter": ("population",),
    "warehouse": (),
}
_EXAMPLES: Final = {
    "facility_id": f"{EXAMPLE_PREFIX}1",
    "name": "示例，请删除本行 (example: delete this row)",
    "lon": "106.551600", "lat": "29.563000", "operator": "china_mobile", "state": "up",
    "network": "china_mobile", "feeds_from": "SUB-1", "battery_hours": "4", "main_grid": "true",
    "load_kw": "23000", "customers": "10500", "attributes.equipment": "elevator",
    "attributes.owner": "产权单位", "attributes.maintainer": "维保单位",
    "rescue_code": "123456", "key_level": "city", "population": "1200",
}  # fmt: skip


def template_rows(kind: str, lang: str = "en") -> list[list[str]]:
    """Header and one example row, marked as one, for facilities of a kind; `lang` en or zh."""
    if kind not in KINDS:
        raise InvalidInput([Fault(f"must be one of {', '.join(KINDS)}", None, "kind")])
    fields = [*_EVERY, *_OF_KIND[kind]]
    return [
        [HEADERS[field][1 if lang == "zh" else 0] for field in fields],
        [_EXAMPLES[field] for field in fields],
    ]


def template_csv(kind: str, lang: str = "en") -> bytes:
    """The template as CSV."""
    from data.template_file import csv_file  # here: a process that only reads files starts sooner

    return csv_file(template_rows(kind, lang))


def template_xlsx(kind: str, lang: str = "en") -> bytes:
    """The template as a workbook."""
    from data.template_file import xlsx_file  # here: as above

    return xlsx_file(kind, template_rows(kind, lang))
