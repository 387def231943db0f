"""Why a facility is down, in the five words in which operators' totals say it.

docs/meanings.md, "History": a status event says its cause in its own words; one of the words below
that comes first in it decides.
"""

from __future__ import annotations

from functools import lru_cache

from data.returns import CAUSES

UNKNOWN = "unknown"
OTHER = "other"
#: Words by cause, lower case. Of several that begin at one place the longest counts.
WORDS: dict[str, tuple[str, ...]] = {
    "power": (
        *("power", "mains", "battery", "electricity", "generator", "blackout"),
        *("停电", "断电", "市电", "电池", "供电", "电力", "缺电", "发电", "失电", "电源"),
    ),
    "damage": (
        *("damage", "broken", "collapse", "flood", "fire", "lightning", "hardware", "destroyed"),
        *("损坏", "损毁", "倒杆", "倒塔", "断缆", "倒塌", "水淹", "进水", "雷击", "火灾", "被盗"),
        *("硬件故障", "设备故障", "板卡"),
    ),
    "transport": (
        *("transport", "transmission", "trunk", "fibre", "fiber", "backhaul", "microwave"),
        *("传输", "光缆", "光纤", "中继", "微波", "承载网", "电缆中断"),
    ),
}
NOT_KNOWN = frozenset(
    ("", "-", "/", "unknown", "none", "n/a", "未知", "不明", "不详", "原因不明", "待查", "待核实")
)


@lru_cache(maxsize=8192)
def cause_of(words: str | None) -> str:
    """One of power, damage, transport, other, unknown; what is said and fits none is `other`."""
    told = (words or "").strip().lower()
    if told in NOT_KNOWN:
        return UNKNOWN
    if told in CAUSES:
        return told
    found = [
        (told.index(word), -len(word), cause)
        for cause, own in WORDS.items()
        for word in own
        if word in told
    ]
    return min(found)[2] if found else OTHER
