"""The name of an exported file: what it holds, in which system, of which districts and time.

It is made of the manifest, for people who keep many such files. Stored and asked text (names of
districts, kinds, operators) is in it only as letters, digits and hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from api.language import Lang
from geo.crs import CGCS2000, WGS84
from maps.planner_words import PLANNER_WORDS
from maps.text import KINDS

BEIJING = timezone(timedelta(hours=8))
DISTRICTS_NAMED = 3
PART_CHARACTERS_MAX = 24
UNSAFE, UNSAFE_CHINESE = re.compile(r"[^A-Za-z0-9_]+"), re.compile(r"[^\w]+")
SYSTEMS = {WGS84: "EPSG4326", CGCS2000: "EPSG4490"}
#: Filters that are named without their value.
NAMED_ONLY = ("bbox", "plan", "since", "possible", "open")


def disposition(manifest: Mapping[str, Any], suffix: str, lang: Lang) -> str:
    """The header Content-Disposition: the name in ASCII, and for `zh` in Chinese too (RFC 5987)."""
    plain = f'attachment; filename="{export_name(manifest, "en")}.{suffix}"'
    if lang != "zh":
        return plain
    return f"{plain}; filename*=UTF-8''{quote(export_name(manifest, lang), safe='')}.{suffix}"


def export_name(manifest: Mapping[str, Any], lang: Lang) -> str:
    """`yutu-facilities-substation-2districts-EPSG4490-20261121T160000+0800`, in `en` only ASCII;
    the time is Beijing's."""
    chinese = lang == "zh"
    parts = [
        "渝图" if chinese else "yutu",
        manifest["title"] if chinese else manifest["collection"],
        *_filters(manifest, chinese),
        SYSTEMS.get(manifest["crs"]) or re.sub("[:-]", "", manifest["crs"]),
    ]
    foreign = UNSAFE_CHINESE if chinese else UNSAFE
    safe = [foreign.sub("_", str(part))[:PART_CHARACTERS_MAX].strip("_") for part in parts]
    return "-".join([*filter(None, safe), *_time(manifest["at"] or manifest["as_of"], chinese)])


def _filters(manifest: Mapping[str, Any], chinese: bool) -> list[str]:
    filters: Mapping[str, Any] = manifest["filters"]
    found = []
    if "kind" in filters:
        kind = str(filters["kind"])
        words = PLANNER_WORDS["zh"]
        found.append(KINDS["zh"].get(kind) or words.get(f"kind_{kind}", kind) if chinese else kind)
    if "operator" in filters:
        found.append(str(filters["operator"]))
    for state in filters.get("state", ()):
        found.append(PLANNER_WORDS["zh"].get(f"file_state_{state}", state) if chinese else state)
    found += [name for name in NAMED_ONLY if name in filters]
    chosen = manifest.get("filter_districts", ())
    if 0 < len(chosen) <= (DISTRICTS_NAMED if chinese else 1):
        found += [str(one["name" if chinese else "adcode"]) for one in chosen]
    elif chosen:
        found.append(f"{len(chosen)}个区县" if chinese else f"{len(chosen)}districts")
    return found


def _time(instant: str | None, chinese: bool) -> list[str]:
    """Of the moment asked for, else of the newest change in the file."""
    if instant is None:
        return []
    stamp = datetime.fromisoformat(instant).astimezone(BEIJING).strftime("%Y%m%dT%H%M%S")
    return [f"{stamp}北京时间" if chinese else f"{stamp}+0800"]
