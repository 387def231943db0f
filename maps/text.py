"""The words of the pages in Chinese and English. Plan texts come from the rule packs, not here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Lang = Literal["zh", "en"]
HTML_LANGS: Mapping[Lang, str] = MappingProxyType({"zh": "zh-CN", "en": "en"})
LANGS: tuple[Lang, ...] = ("zh", "en")

_PAIRS: dict[str, tuple[str, str]] = {
    "title": ("渝图 指挥地图", "Yutu command map"),
    "brand": ("渝图", "Yutu"),
    "brand_sub": ("重庆应急指挥一张图", "Chongqing emergency map"),
    "plans": ("预案", "Plans"),
    "map": ("区县态势图", "Map of the districts"),
    "assessment": ("研判与区县数据", "Assessment and district figures"),
    "reasons": ("研判依据", "Assessment"),
    "table": ("区县列表", "Districts"),
    "legend": ("图例", "Legend"),
    "fill_by": ("着色方式", "Colour by"),
    "language": ("English", "中文"),
    "sign_in": ("登录", "Sign in"),
    "sign_on": ("用统一身份认证登录", "Sign in by the city's account"),
    "sign_out": ("退出", "Sign out"),
    "planner": ("规划分析", "Planner"),
    "all_plans": ("全部预案", "All plans"),
    "noscript": ("本页需要启用 JavaScript。", "This page needs JavaScript."),
    # time and line
    "data_time": ("数据时间", "Data as of"),
    "line_connecting": ("正在连接", "Connecting"),
    "line_live": ("实时连接", "Live"),
    "line_lost": ("连接中断", "Connection lost"),
    "age_seconds": ("{n} 秒前", "{n} s ago"),
    "age_minutes": ("{n} 分 {s} 秒前", "{n} min {s} s ago"),
    "age_hours": ("{n} 小时 {m} 分前", "{n} h {m} min ago"),
    "age_days": ("{n} 天 {h} 小时前", "{n} d {h} h ago"),
    "changed_ago": ("{age}更新", "changed {age}"),
    "unchanged_since": ("{time} 以来无变化（{age}）", "nothing new since {time} ({age})"),
    "before_cut": ("为断线前数据", "from before the cut"),
    "for_minutes": ("{n} 分钟", "{n} min"),
    "for_hours": ("{n} 小时 {m} 分", "{n} h {m} min"),
    "for_days": ("{n} 天 {h} 小时", "{n} d {h} h"),
    "lost_since": (
        "自 {time} 起与服务器失去连接，以下为断线前的数据，正在重新连接……",
        "Connection lost since {time}. What you see is from before; reconnecting…",
    ),
    "signed_out": ("登录已失效，数据不再更新。", "Your session has ended; nothing is updated."),
    "refused": (
        "服务器未能给出该时刻的态势：{why}",
        "The server gave no situation for that time: {why}",
    ),
    "unread": (
        "连不上服务器，还没有读到该时刻的态势，正在重试……",
        "The server cannot be reached; the situation of that time is not here yet. Trying again…",
    ),
    "past": (
        "历史态势，非当前数据。北京时间",
        "A past situation, not the present one. Beijing time",
    ),
    "past_reading": ("正在读取该时刻的态势……", "Reading the situation of that time…"),
    "divisions": ("{n} 个区县", "{n} districts"),
    "divisions_since": (
        "{n} 个区县（{since} 起的区划）",
        "{n} districts (divisions since {since})",
    ),
    "divisions_between": (
        "{n} 个区县（{since} 至 {until} 的区划）",
        "{n} districts (divisions from {since} to {until})",
    ),
    "to_now": ("回到当前", "Back to now"),
    "synthetic": (
        "演示数据（合成），不反映真实情况：全部在册设施",
        "Synthetic data for demonstration, not real: every facility on the inventory",
    ),
    "synthetic_part": (
        "含演示数据（合成），不反映真实情况：在册设施 {all} 处中的 {part} 处（{share}）",
        "Synthetic data for demonstration, not real: {part} of the {all} facilities on the"
        " inventory ({share})",
    ),
    # levels
    "level_word": ("等级", "Level"),
    "level_of": ("{level}级", "Level {level}"),
    "severity_特别重大": ("特别重大", "extremely serious"),
    "severity_重大": ("重大", "very serious"),
    "severity_较大": ("较大", "serious"),
    "severity_一般": ("一般", "ordinary"),
    "no_level": ("未达等级", "No level"),
    "level_open": ("等级未定", "Level open"),
    "open_wholly": (
        "等级未定：信息不全，介于未达等级与{most}之间",
        "Level open, facts missing: between none and {most}",
    ),
    "open_above": ("信息不全，最高可达{most}", "Facts missing: up to {most}"),
    "bearers": ("决定等级的事件（{n}）", "Incidents with this level ({n})"),
    "not_reached": ("未达到分级标准", "No criterion met"),
    "no_assessment": ("尚无该预案的研判结果。", "There is no assessment for this plan yet."),
    "no_assessment_short": ("尚无研判", "Not assessed"),
    "proposal": ("系统建议等级，须由人员确认", "A proposal; a person confirms the level"),
    "proposal_none": ("系统研判，须由人员确认", "As computed; a person confirms"),
    "bounds_least": ("至少", "At least"),
    "bounds_most": ("至多", "at most"),
    "bounds_why": ("（取决于未知：{what}）", "(depending on: {what})"),
    "unknown_facilities": ("状态不明的设施", "facilities in unknown state"),
    "comma": ("、", ", "),
    "possible": (
        "尚未发生，按可能发生研判。",
        "It has not happened; graded as what may happen.",
    ),
    "out_of_scope": (
        "不属于本预案适用范围（§{clause}）。",
        "Outside the plan's scope (§{clause}).",
    ),
    "event_open": (
        "这是本次事件最严重时刻（{worst}）的等级；事件自 {opened} 起，经确认才结束。当前：{now}。",
        "The level is that of the event's gravest moment ({worst}); the event began {opened} and"
        " lasts until its end is confirmed. Now: {now}.",
    ),
    "legend_outages": ("已报告的停电范围", "Reported outage extent"),
    "below_noise_floor": (
        "低于运行提示阈值：数量少、占比低，按预案字面仍列出等级，不作告警。",
        "Below the operational noise floor: few sites and a small share. The level follows the "
        "letter of the plan and raises no alarm.",
    ),
    "findings": ("已满足的条款（{n}）", "Criteria met ({n})"),
    "no_findings": ("没有满足任何分级条款。", "No criterion of the plan is met."),
    "next": ("距更高等级", "Distance to the next level"),
    "threshold": ("阈值 {value}", "threshold {value}"),
    "short_by": ("还差 {value}", "short by {value}"),
    "points": ("{n} 个百分点", "{n} percentage points"),
    "points_one": ("{n} 个百分点", "{n} percentage point"),
    "counted": ("{n} 个区县 ≥ {threshold}", "{n} districts at {threshold} or more"),
    "counted_one": ("{n} 个区县 ≥ {threshold}", "{n} district at {threshold} or more"),
    "count_needed": ("须 {n} 个", "{n} needed"),
    "amounts_to": ("即 {value}", "that is {value}"),
    "value_unknown": ("数值未知", "value unknown"),
    "reached_at": ("如持续，{time} 达到", "reached at {time} if it goes on"),
    "beyond": ("更高等级的其他条款（{n}）", "Criteria of still graver levels ({n})"),
    "and_more": ("等，另 {n} 个", "and {n} more"),
    "could_give": ("{fact}（可致{level}级）", "{fact} (could give level {level})"),
    "needs_further": (
        "以上为所差最少者，另有 {n} 个区县未列出",
        "those that need least; {n} more districts are not listed",
    ),
    "needs_further_one": (
        "以上为所差最少者，另有 {n} 个区县未列出",
        "those that need least; {n} more district is not listed",
    ),
    "needs_more": ("再增 {value} 即达到", "{value} more would reach it"),
    "undeclared": ("未申报事项", "Not declared"),
    "undeclared_why": (
        "下列事项由主管人员申报，未申报不等于没有：",
        "People declare these; undeclared does not mean no:",
    ),
    "yes": ("是", "yes"),
    "no": ("否", "no"),
    "unit_MW": ("兆瓦", "MW"),
    "unit_customer": ("户", "customers"),
    "unit_customer_one": ("户", "customer"),
    "unit_facility": ("处", "facilities"),
    "unit_facility_one": ("处", "facility"),
    "unit_person": ("人", "people"),
    "unit_person_one": ("人", "person"),
    "unit_yuan": ("元", "yuan"),
    "unit_h": ("小时", "h"),
    "unit_district": ("个区县", "districts"),
    "unit_district_one": ("个区县", "district"),
    "unit_districts": ("个区县", "districts"),
    "unit_districts_one": ("个区县", "district"),
    "unit_unit": ("个区县（含功能区）", "units"),
    "unit_unit_one": ("个区县（含功能区）", "unit"),
    # legend and map
    "measure_facilities": ("设施中断占比", "Facilities down"),
    "measure_load": ("减供负荷占比", "Load shed"),
    "measure_customers": ("停电用户占比", "Customers out"),
    "measure_level": ("按等级", "By level"),
    "measure_level_long": ("区县单独研判等级", "Level of each district alone"),
    "no_data": ("无数据", "No data"),
    "legend_levels": ("区县等级：方块数字与边线", "District level: numeral and outline"),
    "legend_open": ("等级未定的事件（{n}）", "Incidents whose level is open ({n})"),
    "legend_points": ("在办事件（圆点内为等级）", "Open incident (level inside)"),
    "zoom_in": ("放大", "Zoom in"),
    "zoom_out": ("缩小", "Zoom out"),
    "incident": ("事件", "Incident"),
    "open_incidents": ("在办事件（{n}）", "Open incidents ({n})"),
    "and_more_incidents": ("另有 {n} 起", "and {n} more"),
    "may_happen": ("可能发生", "may happen"),
    "not_placed": ("未落图", "not placed"),
    "outside_city": ("重庆市外", "outside Chongqing"),
    "state_reported": ("待核实", "reported"),
    "state_verified": ("已核实", "verified"),
    "state_active": ("处置中", "being dealt with"),
    "whole": ("全市", "Whole city"),
    "whole_title": ("显示全市", "Show the whole city"),
    "centre": ("中心城区", "Centre"),
    "centre_title": ("放大到中心城区", "Zoom to the centre of the city"),
    "teams": ("队伍", "Teams"),
    "teams_title": ("显示或隐藏队伍位置", "Show or hide where teams are"),
    "team_stale": ("位置已过时", "position out of date"),
    "legend_teams": ("队伍位置（{n}）", "Teams ({n})"),
    "legend_teams_stale": ("其中位置已过时（{n}）", "of these out of date ({n})"),
    "outage": ("停电范围", "Outage"),
    "outage_planned": ("计划停电范围", "Planned outage"),
    # district card and table
    "close": ("关闭", "Close"),
    "district": ("区县", "District"),
    "zone": ("功能区", "zone"),
    "zone_without_border": (
        "功能区没有公开边界，地图上不单独绘制。",
        "A functional zone; it has no public boundary and is not drawn by itself.",
    ),
    "approximate_border": (
        "此区县边界为近似边界，仅供展示。",
        "This district's border is approximate.",
    ),
    "no_facilities": ("没有设施记录。", "No facilities recorded."),
    "facilities": ("设施", "Facilities"),
    "down": ("中断", "Down"),
    "unknown": ("不明", "Unknown"),
    "total": ("总数", "Total"),
    "share": ("占比", "Share"),
    "load_shed": ("减供负荷", "Load shed"),
    "customers_out": ("停电用户", "Customers out"),
    "population_affected": ("停电影响人口（估算）", "People without power (estimate)"),
    "of": ("{part} / {whole}", "{part} / {whole}"),
    "of_mw": ("{part} / {whole} 兆瓦", "{part} / {whole} MW"),
    "area_of": ("{kind}影响面积", "Area, {kind}"),
    "area_any_all": ("{any}（全部网络 {all}）", "{any} ({all} without any network)"),
    "table_caption": (
        "各区县等级与指标，点击表头排序",
        "Level and figures of each district; select a heading to sort",
    ),
    # sources
    "borders": ("边界", "Borders"),
    "licence": ("许可", "licence"),
    "approximate_note": ("近似边界：{names}", "Approximate borders: {names}"),
    # login
    "login_title": ("登录渝图", "Sign in to Yutu"),
    "username": ("用户名", "User name"),
    "password": ("密码", "Password"),
}

_KINDS: dict[str, tuple[str, str]] = {
    "base_station": ("基站", "Base stations"),
    "exchange": ("通信局站", "Exchanges"),
    "tower": ("铁塔", "Towers"),
    "substation": ("变电站", "Substations"),
    "power_plant": ("电厂", "Power plants"),
    "special_equipment": ("特种设备", "Special equipment"),
    "key_user": ("重要用户", "Key users"),
    "shelter": ("避难场所", "Shelters"),
    "hospital": ("医院", "Hospitals"),
    "boiler": ("锅炉", "Boiler"),
    "pressure_vessel": ("压力容器", "Pressure vessel"),
    "gas_cylinder": ("气瓶", "Gas cylinder"),
    "pressure_pipeline": ("压力管道", "Pressure pipeline"),
    "elevator": ("电梯", "Lift"),
    "crane": ("起重机械", "Crane"),
    "passenger_ropeway": ("客运索道", "Passenger ropeway"),
    "large_amusement_ride": ("大型游乐设施", "Large amusement ride"),
    "in_plant_vehicle": ("场（厂）内专用机动车辆", "In-plant vehicle"),
    "optical_cable": ("光缆", "Optical cable"),
    "power_line": ("线路", "Power line"),
    "customers": ("居民、单位停电", "Homes or premises"),
    "other": ("其他", "Other"),
}

_SHORT_PLANS: dict[str, tuple[str, str]] = {
    "communications-2024": ("通信保障", "Communications"),
    "power-outage-2021": ("大面积停电", "Power outage"),
    "special-equipment-2023": ("特种设备", "Special equipment"),
}


_METRICS: dict[str, tuple[str, str]] = {
    "share_down": ("中断设施占比", "Share of facilities down"),
    "load_shed_share": ("主网减供负荷占比", "Share of main-grid load shed"),
    "customers_out_share": ("主网停电用户占比", "Share of main-grid customers out"),
    "district_load_shed_share": ("区县减供负荷占比", "Share of district load shed"),
    "district_customers_out_share": ("区县停电用户占比", "Share of district customers out"),
}


def _column(pairs: Mapping[str, tuple[str, str]], lang: Lang) -> Mapping[str, str]:
    return MappingProxyType({key: pair[LANGS.index(lang)] for key, pair in pairs.items()})


WORDS: Mapping[Lang, Mapping[str, str]] = {lang: _column(_PAIRS, lang) for lang in LANGS}
KINDS: Mapping[Lang, Mapping[str, str]] = {lang: _column(_KINDS, lang) for lang in LANGS}
METRICS: Mapping[Lang, Mapping[str, str]] = {lang: _column(_METRICS, lang) for lang in LANGS}
SHORT_PLANS: Mapping[Lang, Mapping[str, str]] = {
    lang: _column(_SHORT_PLANS, lang) for lang in LANGS
}


def say(lang: Lang, key: str, **values: object) -> str:
    """One text of the page; raises KeyError for a key without words."""
    return WORDS[lang][key].format(**values) if values else WORDS[lang][key]


def as_lang(wanted: str | None) -> Lang:
    """`en`, `en-GB` → en; anything else is Chinese."""
    return "en" if wanted and wanted.lower().split("-")[0] == "en" else "zh"
