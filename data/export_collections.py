"""What can be exported: the columns of each collection, where its rows come from, its filters.

Titles are Chinese for people; names are the API's. Rows of the past come from the same SQL
functions as those of now (migration 0005), given another sequence and moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean", "time", "json"]


@dataclass(frozen=True, slots=True)
class Column:
    """`name` is a column of the source, or what `sql` gives."""

    name: str
    title: str
    kind: Kind = "text"
    sql: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """`shape` is the geometry type of every row; `at`: whether the past can be asked for."""

    name: str
    title: str
    source: str
    order: str
    shape: Literal["Point", "MultiPolygon", "Unknown"]
    columns: tuple[Column, ...]
    filters: Mapping[str, str]
    at: bool = True

    @property
    def has_synthetic(self) -> bool:
        return any(column.name == "synthetic" for column in self.columns)


_BOX = "ST_MakeEnvelope(:west, :south, :east, :north, 4326)"
_INSIDE = {"bbox": f"ST_Intersects(e.geom, {_BOX})"}
_ADCODE = {"adcode": "e.adcode = ANY (CAST(:adcode AS text[]))"}

ADCODE = Column("adcode", "区县代码")
DISTRICTS = Collection(
    "districts",
    "区县",
    "districts_at(:moment) e",
    "e.adcode",
    "MultiPolygon",
    (
        ADCODE,
        Column("name", "名称"),
        Column("name_en", "英文名"),
        Column("population", "常住人口", "integer"),
        Column("population_source", "人口来源"),
        Column("area_m2", "面积（平方米）", "number"),
        Column("approximate", "边界为近似", "boolean"),
        Column("source", "来源"),
        Column("licence", "许可"),
        Column("valid_from", "生效时间", "time"),
        Column("valid_to", "失效时间", "time"),
    ),
    _INSIDE | _ADCODE,
)

FACILITIES = Collection(
    "facilities",
    "设施",
    "ogc.facilities e",
    "e.facility_id",
    "Point",
    (
        Column("facility_id", "设施编号"),
        Column("name", "名称"),
        Column("kind", "类型"),
        Column("operator", "运营商"),
        Column("network", "网络"),
        Column("state", "状态"),
        Column("observed_at", "观测时间", "time"),
        ADCODE,
        Column("unit", "单元"),
        Column("main_grid", "主网", "boolean"),
        Column("load_kw", "负荷（千瓦）", "integer"),
        Column("customers", "供电用户数", "integer"),
        Column("population", "服务人口", "integer"),
        Column("feeds_from", "供电来源"),
        Column("battery_hours", "后备电池（小时）", "number"),
        Column("key_level", "重要级别"),
        Column("rescue_code", "救援识别码"),
        Column("synthetic", "合成数据", "boolean"),
        Column("version", "版本", "integer"),
        Column("valid_from", "生效时间", "time"),
    ),
    _INSIDE
    | _ADCODE
    | {
        "kind": "e.kind = :kind",
        "operator": "e.operator = :operator",
        "state": "e.state = ANY (CAST(:state AS text[]))",
    },
    at=False,
)

INCIDENTS = Collection(
    "incidents",
    "事件",
    "incidents_known(:known) e JOIN incident i ON i.incident_id = CAST(e.incident_id AS uuid)",
    "e.occurred_at DESC, e.incident_id",
    "Point",
    (
        Column("incident_id", "事件编号"),
        Column("plan", "预案"),
        Column("kind", "类型"),
        Column("level", "级别", "integer", "CAST(NULL AS integer)"),
        Column("state", "状态"),
        Column("possible", "可能发生", "boolean"),
        Column("occurred_at", "发生时间", "time"),
        Column("received_at", "接收时间", "time"),
        ADCODE,
        Column("unit", "单元"),
        Column("facility_id", "设施编号"),
        Column("accuracy_m", "精度（米）", "number"),
        Column("address", "地址", sql="i.body ->> 'address'"),
        Column("description", "描述", sql="i.body ->> 'description'"),
        Column("source", "信息来源", sql="i.body ->> 'source'"),
        Column("facts", "事实", "json"),
        Column("duplicate_of", "并入事件"),
        Column("version", "版本", "integer"),
    ),
    _INSIDE
    | _ADCODE
    | {
        "plan": "e.plan = :plan",
        "kind": "e.kind = :kind",
        "state": "e.state = ANY (CAST(:state AS text[]))",
        "since": "e.occurred_at >= :since",
        "possible": "e.possible = :possible",
    },
)
#: Only for who may read them, and only when asked for.
REPORTER_COLUMNS = (
    Column("reporter_name", "报告人", sql="i.body #>> '{reporter,name}'"),
    Column("reporter_phone", "报告人电话", sql="i.body #>> '{reporter,phone}'"),
)

OUTAGES = Collection(
    "outages",
    "停电",
    "outages_known(:known, :moment) e",
    "e.started_at DESC, e.outage_id",
    "Unknown",
    (
        Column("outage_id", "停电编号"),
        Column("revision", "修订", "integer"),
        Column("operator", "运营商"),
        Column("cause", "原因"),
        Column("planned", "计划停电", "boolean"),
        Column("main_grid", "主网", "boolean"),
        Column("open", "未恢复", "boolean"),
        Column("applied", "参与计算", "boolean"),
        Column("load_shed_kw", "损失负荷（千瓦）", "integer"),
        Column("customers_out", "停电用户数", "integer"),
        Column("restored_load_kw", "已恢复负荷（千瓦）", "integer"),
        Column("started_at", "开始时间", "time"),
        Column("restored_at", "恢复时间", "time"),
        Column("estimated_restoration", "预计恢复时间"),
        Column("received_at", "接收时间", "time"),
        Column("facility_ids", "所涉设施", "json"),
        Column("adcodes", "所涉区县代码", "json"),
    ),
    {
        "bbox": f"(ST_Intersects(e.geom, {_BOX}) OR (e.geom IS NULL AND EXISTS ("
        "SELECT 1 FROM facility f WHERE f.facility_id = ANY (e.facility_ids)"
        f" AND ST_Intersects(f.geom, {_BOX}))))",
        "adcode": "e.adcodes && CAST(:adcode AS text[])",
        "operator": "e.operator = :operator",
        "open": "e.open = :open",
    },
)

SITUATION = Collection(
    "situation",
    "态势",
    "situation_rows(CAST(:document AS jsonb), :moment) e",
    "e.adcode",
    "MultiPolygon",
    (
        ADCODE,
        Column("name", "名称"),
        Column("name_en", "英文名"),
        Column("level", "级别", "integer"),
        Column("level_communications", "通信保障级别", "integer"),
        Column("level_power", "大面积停电级别", "integer"),
        Column("level_special_equipment", "特种设备级别", "integer"),
        Column("open_incidents", "未结事件", "integer"),
        Column("facilities_total", "设施总数", "integer"),
        Column("facilities_down", "设施中断", "integer"),
        Column("facilities_unknown", "设施状态未知", "integer"),
        Column("base_stations_total", "基站总数", "integer"),
        Column("base_stations_down", "基站中断", "integer"),
        Column("base_stations_unknown", "基站状态未知", "integer"),
        Column("base_stations_share_down", "基站中断比例", "number"),
        Column("substations_total", "变电站总数", "integer"),
        Column("substations_down", "变电站停运", "integer"),
        Column("load_mw", "负荷（兆瓦）", "number"),
        Column("load_shed_mw", "损失负荷（兆瓦）", "number"),
        Column("load_share", "损失负荷比例", "number"),
        Column("customers_total", "用户总数", "integer"),
        Column("customers_out", "停电用户数", "integer"),
        Column("customers_share", "停电用户比例", "number"),
        Column("population", "常住人口", "integer"),
        Column("population_affected", "受影响人口", "integer"),
        Column("power_area_share", "停电面积比例", "number"),
        Column("as_of", "数据时间", "time"),
        Column("sequence", "序号", "integer"),
    ),
    _INSIDE | _ADCODE,
)

TEAMS = Collection(
    "teams",
    "队伍",
    "team e",
    "e.uid",
    "Point",
    (
        Column("uid", "队伍编号"),
        Column("callsign", "呼号"),
        Column("group_name", "编组"),
        Column("group_role", "职责"),
        Column("observed_at", "观测时间", "time"),
        Column("stale_at", "过时时间", "time"),
        ADCODE,
        Column("accuracy_m", "精度（米）", "number"),
        Column("height_m", "高度（米）", "number"),
        Column("speed_mps", "速度（米/秒）", "number"),
        Column("course_deg", "航向（度）", "number"),
        Column("battery_percent", "电量（%）", "integer"),
    ),
    _INSIDE | _ADCODE,
    at=False,
)

COLLECTIONS: Mapping[str, Collection] = {
    one.name: one for one in (DISTRICTS, FACILITIES, INCIDENTS, OUTAGES, SITUATION, TEAMS)
}
#: Read by who reads incidents.
GUARDED = frozenset({"incidents", "teams"})
