"""The rule packs on disk: one TOML file per version of a plan, and which one is in force when."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from geo.errors import NotFound, PlanError
from geo.grade import PackSource, RulePack
from geo.packsource import KeyPath

PLANS_FOLDER = Path(__file__).parent / "plans"
CITY_TIME = timezone(timedelta(hours=8), "Asia/Shanghai")


class RulePacks:
    """Every version of every plan. Dates are days in the city (UTC+8); a version is in force from
    the start of `effective_from` until the start of `effective_to`."""

    def __init__(self, packs: Iterable[RulePack]) -> None:
        versions: dict[str, list[RulePack]] = {}
        for pack in packs:
            versions.setdefault(pack.plan, []).append(pack)
        faults = []
        for plan, known in sorted(versions.items()):
            known.sort(key=lambda pack: pack.effective_from)
            for earlier, later in pairwise(known):
                if earlier.effective_to is None or earlier.effective_to > later.effective_from:
                    here = later.source.where(("effective_from",))
                    there = earlier.source.where(("effective_from",))
                    faults.append(f"{here}: effective_from: {plan} overlaps its version at {there}")
                if earlier.version == later.version:
                    here = later.source.where(("version",))
                    faults.append(f"{here}: version: {plan} has this version already")
        if faults:
            raise PlanError("; ".join(faults))
        self._versions = versions

    def plans(self) -> list[str]:
        """The ids of the plans, sorted."""
        return sorted(self._versions)

    def versions(self, plan: str) -> list[RulePack]:
        """Every version of a plan, oldest first. Raises NotFound for an unknown plan."""
        try:
            return list(self._versions[plan])
        except KeyError:
            raise NotFound(f"no plan {plan!r}; known are {', '.join(self.plans())}") from None

    def at(self, plan: str, when: datetime) -> RulePack:
        """The version in force at an aware time. Raises NotFound when there is none."""
        day = _day(when)
        for pack in self.versions(plan):
            if pack.effective_from <= day and (
                pack.effective_to is None or day < pack.effective_to
            ):
                return pack
        raise NotFound(f"no version of {plan} was in force on {day.isoformat()}")

    def current(self, plan: str) -> RulePack:
        """The version in force now."""
        return self.at(plan, datetime.now(UTC))

    def in_force(self, when: datetime) -> list[RulePack]:
        """The pack of each plan that had one in force, by plan id."""
        found = []
        for plan in self.plans():
            try:
                found.append(self.at(plan, when))
            except NotFound:
                continue
        return found


def _day(when: datetime) -> date:
    if when.utcoffset() is None:
        raise ValueError("a time must say its offset from UTC")
    return when.astimezone(CITY_TIME).date()


def load_packs(folder: Path = PLANS_FOLDER) -> RulePacks:
    """Every `*.toml` of the folder. Raises PlanError naming file and line of what is wrong."""
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise PlanError(f"{folder}: no rule pack (*.toml) here")
    return RulePacks([load_pack(file) for file in files])


def load_pack(file: Path) -> RulePack:
    """The pack of one file. Raises PlanError naming file and line."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise PlanError(f"{file.name}:{line}: is not UTF-8") from None
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise PlanError(f"{file.name}:{line}: {error}") from None
    return RulePack.from_dict(data, PackSource(file.name, key_lines(text)))


_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_COMMENT_OR_STRING = re.compile(
    r'''#[^\n]*|"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^"\\\n])*"|''' r"""'''.*?'{3,5}|'[^'\n]*'""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of each table and key of a TOML text, which `tomllib` does not tell.

    Entries of an array of tables are numbered from 0; keys inside an inline table or array take the
    line of the key that holds it. The text must be valid TOML.
    """
    lines: dict[KeyPath, int] = {(): 1}
    entries: dict[KeyPath, int] = {}
    table: KeyPath = ()
    depth = 0
    for number, line in enumerate(_blanked(text).split("\n"), start=1):
        header = _HEADER.match(line) if depth == 0 else None
        if header:
            table = _entered(header[2], entries)
            if header[1] == "[[":
                lines.setdefault(table, number)
                entries[table] = entries.get(table, -1) + 1
                table = (*table, entries[table])
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line) if depth == 0 else None
        if key:
            path = table
            for name in _names(key[1]):
                path = (*path, name)
                lines.setdefault(path, number)
        depth += sum(map(line.count, "[{")) - sum(map(line.count, "]}"))
    return lines


def _blanked(text: str) -> str:
    """The text line for line, without comments and with every string value blanked."""

    def blank(found: re.Match[str]) -> str:
        if found[0].startswith("#"):
            return ""
        is_key = text[found.end() :].split("\n", 1)[0].lstrip().startswith(("=", "."))
        return found[0] if is_key else re.sub(r"[^\n]", "_", found[0])

    return _COMMENT_OR_STRING.sub(blank, text)


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, dotted)]


def _entered(header: str, entries: dict[KeyPath, int]) -> KeyPath:
    """The path a header names, each array of tables on the way standing at its latest entry."""
    names = _names(header)
    path: KeyPath = ()
    for n, name in enumerate(names, start=1):
        path = (*path, name)
        if path in entries and n < len(names):
            path = (*path, entries[path])
    return path
