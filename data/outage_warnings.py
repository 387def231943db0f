"""What a stored outage's answer warns about: that it reaches nothing, lies outside, or lies ahead.

A warning never keeps an outage out; its text is for people, in Chinese and English.
"""

from __future__ import annotations

from typing import Any

from data.outage_split import OutageFacilities

_TEXTS = {
    "facility_unknown": (
        "清单中没有这些设施：{}",
        "not in the inventory: {}",
    ),
    "outside": ("部分停电范围在重庆市以外", "part of the outage lies outside Chongqing"),
    "all_outside": (
        "停电范围全部在重庆市以外：不计入任何区县",
        "all of the outage lies outside Chongqing: it counts for no district",
    ),
    "no_facility": (
        "未列出变电站，范围内也没有清单中的变电站：按{}分摊到区县",
        "names no substation, and none of the inventory lies inside: divided by {}",
    ),
    "nothing_lost": (
        "load_shed_kw 和 customers_out 均为 0：各区县分摊均为 0，不计损失",
        "load_shed_kw and customers_out are both 0: every part is 0 and nothing counts as lost",
    ),
    "unplaced": (
        "无法落图：没有停电范围，也没有已知设施",
        "cannot be placed: neither an extent nor a known facility",
    ),
    "future": (
        "开始时间比接收时间晚 5 分钟以上：已保存，不参与计算",
        "begins more than five minutes after it was received: kept, not applied",
    ),
}
_BASES = {"area": ("面积", "area"), "length": ("长度", "length"), "points": ("点数", "points")}


def outage_warnings(
    feature: dict[str, Any], named: OutageFacilities, lang: str
) -> list[dict[str, str]]:
    """What a sender would not expect of the split: of what it reaches, and by what it was made."""
    properties = feature["properties"]
    found = []
    if named.missing:
        found.append(_warning("facility_unknown", lang, ", ".join(named.missing[:20])))
    parts = properties["split"]
    basis = parts[0]["load_basis"] if parts else "unplaced"
    loses = properties["load_shed_kw"] > 0 or properties["customers_out"] > 0
    if basis == "unplaced":
        found.append(_warning("unplaced", lang))
    elif all(p["adcode"] is None for p in parts):
        found.append(_warning("outside", lang, text="all_outside"))
    elif any(p["adcode"] is None for p in parts):
        found.append(_warning("outside", lang))
    if not loses:
        found.append(_warning("nothing_lost", lang))
    elif named.frame.empty and basis in _BASES and any(p["adcode"] for p in parts):
        found.append(_warning("no_facility", lang, _BASES[basis][lang == "en"]))
    if not properties["applied"]:
        found.append(_warning("future", lang))
    return found


def _warning(code: str, lang: str, more: str = "", *, text: str = "") -> dict[str, str]:
    return {"code": code, "text": _TEXTS[text or code][lang == "en"].format(more)}
