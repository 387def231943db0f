"""The empty file of incidents to fill: a header the reader understands and one example row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from data.readers.cell_values import folded
from data.readers.incident_columns import KIND_FACT, names
from data.rulepacks import RulePacks
from data.template_file import csv_file, xlsx_file
from geo.errors import Fault, InvalidInput
from geo.facts import Fact
from geo.grade import RulePack

#: Field → its header in English and Chinese, and the example's cell.
_FIELDS: Final = {
    "incident_id": ("incident_id", "事件编号", "EXAMPLE-1", "示例-1"),
    "plan": ("plan", "预案", "", ""),
    "kind": ("kind", "类型", "", ""),
    "occurred_at": ("occurred_at", "事发时间", "2026-01-05 14:30", "2026-01-05 14:30"),
    "lon": ("lon", "经度", "106.551600", "106.551600"),
    "lat": ("lat", "纬度", "29.563000", "29.563000"),
    "crs": ("crs", "坐标系", "WGS84", "WGS84"),
    "address": ("address", "事发地点", "Jiefangbei, Yuzhong", "渝中区解放碑"),
    "description": ("description", "描述", "example: delete this row", "示例，请删除本行"),
    "reporter_name": ("reporter_name", "报告人", "", ""),
    "reporter_phone": ("reporter_phone", "联系电话", "", ""),
    "source": ("source", "来源", "", ""),
}
_KINDS: Final = {
    "communications-2024": ("communications", "通信中断"),
    "power-outage-2021": ("outage", "停电"),
}
_UNITS: Final = {"yuan": ("yuan", "元"), "h": ("h", "小时"), "MW": ("MW", "兆瓦")}
#: Facts that grade to no level, so that an example somebody forgot to delete raises none.
_FACTS: Final = {
    "deaths": ("0", "0"),
    "serious_injuries": ("0", "0"),
    "direct_loss_yuan": ("2500", "2500"),
    "exploded": ("no", "否"),
    "people_stranded": ("3", "3"),
    "stranded_since": ("2026-01-05 14:30", "2026-01-05 14:30"),
    "stranded_until": ("2026-01-05 14:50", "2026-01-05 14:50"),
    "district_key_service_down": ("no", "否"),
}


def incident_template_csv(packs: RulePacks, plan: str | None, lang: str = "zh") -> bytes:
    """The template as CSV; `lang` en or zh.

    `plan` by its id or a name of it; None: the columns of every plan, and an example of the first
    that grades each incident by itself. Raises InvalidInput for a plan that does not exist.
    """
    return csv_file(_rows(packs, plan, lang))


def incident_template_xlsx(packs: RulePacks, plan: str | None, lang: str = "zh") -> bytes:
    """The template as a workbook."""
    return xlsx_file("事件" if lang == "zh" else "incidents", _rows(packs, plan, lang))


def _rows(packs: RulePacks, plan: str | None, lang: str) -> list[list[str]]:
    """Header and example row."""
    at = 1 if lang == "zh" else 0
    every = [packs.at(name, datetime.now(UTC)) for name in packs.plans()]
    asked = [_asked(packs, plan)] if plan else every
    example = next((pack for pack in asked if KIND_FACT in _facts(pack)), asked[0])
    facts = {name: fact for pack in asked for name, fact in _facts(pack).items()}
    facts.pop(KIND_FACT, None)
    said = {field: texts[at + 2] for field, texts in _FIELDS.items()}
    said |= {"plan": example.title[lang], "kind": _kind(example, at)}
    header = [texts[at] for texts in _FIELDS.values()]
    header += [_header(fact, lang) for fact in facts.values()]
    own = _facts(example)
    cells = [_FACTS.get(name, ("", ""))[at] if name in own else "" for name in facts]
    return [header, [*said.values(), *cells]]


def _asked(packs: RulePacks, plan: str) -> RulePack:
    named = names().words["plan"].get(folded(plan), plan)
    if named not in packs.plans():
        raise InvalidInput([Fault(f"must be one of {', '.join(packs.plans())}", None, "plan")])
    return packs.at(named, datetime.now(UTC))


def _facts(pack: RulePack) -> dict[str, Fact]:
    return dict(pack.schema.groups[""].facts)


def _kind(pack: RulePack, at: int) -> str:
    """A word for the kind: of equipment where the plan grades by it, else of what is disturbed."""
    if KIND_FACT in _facts(pack):
        return ("elevator", "电梯")[at]
    return _KINDS.get(pack.plan, ("incident", "事件"))[at]


def _header(fact: Fact, lang: str) -> str:
    """The fact's title, with its unit behind it where that could be another."""
    title = fact.title[lang]
    unit = _UNITS.get(fact.unit or "")
    if unit is None:
        return title
    return f"{title}（{unit[1]}）" if lang == "zh" else f"{title} ({unit[0]})"
