"""The situation on one page: what is known → aggregated → graded → what is shown.

Pure: the server calls it with what the database knew at a sequence, the command line with what two
files say. Each plan is fed by the facts its rule pack asks for: counts of facilities per unit,
supply per district, or one incident at a time. docs/meanings.md says what each number means.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from geo.counts import COUNTS as COUNTS
from geo.counts import Count, Place, by_return, unit_facts
from geo.coverage import AreaShare
from geo.grade import assess, district_levels, next_clock_change, worst_of
from geo.power import Loss, Supply
from geo.power_event import Earlier, PowerEvent, PowerView, Settled, graver
from geo.rules import RulePack


@dataclass(frozen=True)
class NoiseFloor:
    """Below this a level is shown without alarm (not from the plans: an operational setting)."""

    fewer_than_sites: int
    under_share: float


@dataclass
class Known:
    """Everything known at a moment, whatever it was read from.

    `districts`: adcode, name, name_en, population, area_m2. `units`: code, name, kind, adcodes.
    `counts`: one row per kind × operator × adcode × unit (null outside) with COUNTS; where a return
    is the source of an operator's kind its totals stand there instead of the sites'.
    `silent`: operators from whom nothing was heard in time. `supply`: per (adcode, main_grid), now;
    `supply_earlier`, `event_settled`, `settle_at`: see `geo.power_event.PowerEvent`.
    `incidents`: open ones, each with incident_id, plan, adcode, unit, facts. `area_share`:
    kind → adcode → share. `sources`: what each operator's figures rest on, as shown.
    """

    districts: list[dict[str, Any]]
    units: list[dict[str, Any]]
    counts: pd.DataFrame
    now: datetime
    silent: frozenset[str] = frozenset()
    supply: Mapping[tuple[str | None, bool], Supply] = field(default_factory=dict)
    losses: Sequence[Loss] = ()
    supply_earlier: Sequence[Earlier] = ()
    event_after: datetime | None = None
    event_settled: Settled | None = None
    settle_at: Sequence[datetime] = ()
    incidents: Sequence[Mapping[str, Any]] = ()
    declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    area_share: Mapping[str, Mapping[str, AreaShare]] = field(default_factory=dict)
    supply_kinds: tuple[str, ...] = ()

    @property
    def adcodes(self) -> list[str]:
        return [d["adcode"] for d in self.districts]


@dataclass(frozen=True)
class Situation:
    """What the situation call answers, and when the clock alone will next change it."""

    units: list[dict[str, Any]]
    plans: dict[str, dict[str, Any]]
    districts: list[dict[str, Any]]
    next_clock_at: datetime | None
    settled: list[Settled] = field(default_factory=list)

    def levels(self) -> dict[str, int | None]:
        """The level of each plan."""
        return {plan: a["level"] for plan, a in self.plans.items()}


def situation(known: Known, packs: Sequence[RulePack], floor: NoiseFloor) -> Situation:
    """Aggregate and grade. Exact for any order of the inputs."""
    plans: dict[str, dict[str, Any]] = {}
    levels: dict[str, dict[str, int | None]] = {}
    wake: list[datetime] = []
    event = PowerEvent(
        known.adcodes,
        known.supply,
        known.losses,
        now=known.now,
        after=known.event_after,
        earlier=known.supply_earlier,
        settled=known.event_settled,
        settle_at=known.settle_at,
    )
    for pack in packs:
        declared = known.declared.get(pack.plan, {})
        groups = pack.schema.groups
        if "districts" in groups and "facilities_total" in groups["districts"].facts:
            plans[pack.plan], levels[pack.plan] = _by_facilities(known, pack, declared, floor)
        elif "districts" in groups:
            plans[pack.plan], levels[pack.plan] = event.graded(pack, declared)
        else:
            plans[pack.plan], levels[pack.plan], instants = _by_incident(known, pack)
            wake += instants
    return Situation(
        units=known.units,
        plans=plans,
        districts=_district_rows(known, levels, event.view),
        next_clock_at=min(wake, default=None),
        settled=event.settled(),
    )


# --- facilities per unit (communications) -----------------------------------------------------


def _by_facilities(
    known: Known, pack: RulePack, declared: Mapping[str, Any], floor: NoiseFloor
) -> tuple[dict[str, Any], dict[str, int | None]]:
    facts = {**declared, "districts": facility_facts(known, pack.facility_kinds)}
    assessment = assess(pack, facts, now=known.now)
    assessment["below_noise_floor"] = _below_floor(assessment, facts["districts"], floor)
    by_district = levels_of_districts(district_levels(pack, facts, known.now), known.units)
    return assessment, by_district


def levels_of_districts(
    by_unit: Mapping[str, int | None], units: Sequence[Mapping[str, Any]]
) -> dict[str, int | None]:
    """The level of each district: the gravest of the units that lie in it."""
    hosts = {u["code"]: u["adcodes"] for u in units}
    found: dict[str, int | None] = {}
    for code, level in by_unit.items():
        for adcode in hosts.get(code, [code]):
            found[adcode] = graver(found.get(adcode), level)
    return found


def facility_facts(known: Known, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Totals per unit over all operators of the graded kinds; silent operators' rest is unknown."""
    return unit_facts(places_counted(known.counts), kinds, known.silent)


def places_counted(counts: pd.DataFrame) -> list[tuple[Place, Count]]:
    """The rows of `Known.counts` one by one; a missing district or unit is None."""
    keys = counts[list(Place._fields)].to_numpy(dtype=object).tolist()
    figures = counts[list(COUNTS)].to_numpy(dtype="int64").tolist()
    return [
        (Place(kind, operator, _known(adcode), _known(unit)), Count(*row))
        for (kind, operator, adcode, unit), row in zip(keys, figures, strict=True)
    ]


def _known(code: Any) -> str | None:
    return code if isinstance(code, str) else None


def _below_floor(
    assessment: Mapping[str, Any], districts: Sequence[Mapping[str, Any]], floor: NoiseFloor
) -> bool:
    """Whether everything found is too small to alarm: few sites, a small share, in every unit."""
    if assessment["level"] is None:
        return False
    named = {code for finding in assessment["findings"] for code in finding["districts"]}
    by_code = {d["adcode"]: d for d in districts}
    if not named or any(not f["districts"] for f in assessment["findings"]):
        return False
    return all(
        by_code[code]["facilities_down"] < floor.fewer_than_sites
        and by_code[code]["facilities_down"] < floor.under_share * by_code[code]["facilities_total"]
        for code in named
    )


# --- one incident at a time (special equipment) -----------------------------------------------


def _by_incident(
    known: Known, pack: RulePack
) -> tuple[dict[str, Any], dict[str, int | None], list[datetime]]:
    """Each open incident by itself; casualties are never pooled; the plan's is the gravest."""
    assessments, instants = [], []
    by_district: dict[str, int | None] = {}
    for incident in known.incidents:
        if incident["plan"] != pack.plan:
            continue
        one = assess(pack, incident["facts"], now=known.now)
        mark = {"incident_id": incident["incident_id"]}
        where = [incident["adcode"]] if incident["adcode"] else []
        for key in ("findings", "next"):
            one[key] = [{**f, "districts": where, **mark} for f in one[key]]
        assessments.append({**one, **mark})
        changes_at = next_clock_change(pack, incident["facts"], known.now)
        if changes_at is not None:
            instants.append(changes_at)
        for adcode in where:
            by_district[adcode] = graver(by_district.get(adcode), one["level"])
    if not assessments:
        return _nothing(pack), by_district, instants
    worst = worst_of(assessments)
    worst["incidents"] = len(assessments)
    return worst, by_district, instants


def _nothing(pack: RulePack) -> dict[str, Any]:
    """No open incident: nothing to grade, nothing unknown."""
    return {
        **dict.fromkeys(("level", "label", "severity", "colour")),
        "plan": pack.plan,
        "version": pack.version,
        "findings": [],
        "next": [],
        "bounds": {"at_least": None, "at_most": None},
        "facts": {},
        "incidents": 0,
    }


# --- districts --------------------------------------------------------------------------------


def _district_rows(
    known: Known, levels: Mapping[str, Mapping[str, int | None]], power: PowerView
) -> list[dict[str, Any]]:
    kinds = sorted(known.counts["kind"].unique())
    sums = known.counts.groupby(["adcode", "kind"], sort=False)[list(COUNTS)].sum()
    counted: dict[tuple[str, str], tuple[int, ...]] = {
        key: tuple(int(v) for v in row)
        for key, row in zip(sums.index, sums.itertuples(index=False, name=None), strict=True)
    }
    open_count: Counter[tuple[str | None, str]] = Counter(
        (incident["adcode"], incident["plan"]) for incident in known.incidents
    )
    rows = []
    for i, district in enumerate(known.districts):
        code = district["adcode"]
        plans = {plan: levels[plan].get(code) for plan in levels}
        supply = power.supply_of(i)
        shares = {kind: by[code] for kind, by in known.area_share.items() if code in by}
        rows.append(
            {
                "adcode": code,
                "name": district["name"],
                "name_en": district.get("name_en"),
                "level": min((v for v in plans.values() if v is not None), default=None),
                "plans": plans,
                "incidents": {plan: open_count[code, plan] for plan in levels},
                "facilities": {
                    kind: _count_row(counted.get((code, kind), (0, 0, 0, 0))) for kind in kinds
                },
                "load": {
                    "load_mw": supply.load_kw / 1000,
                    "load_shed_mw": supply.load_shed_kw / 1000,
                    "share": _share(supply.load_shed_kw, supply.load_kw),
                },
                "customers": {
                    "total": supply.customers,
                    "out": supply.customers_out,
                    "share": _share(supply.customers_out, supply.customers),
                },
                "population": district.get("population"),
                "population_affected": _affected(district.get("population"), shares, known),
                "area_share": {
                    kind: {"any": share.any, "all": share.all, "method": share.method}
                    for kind, share in sorted(shares.items())
                },
            }
        )
    return rows


def _count_row(counts: tuple[int, ...]) -> dict[str, Any]:
    total, unknown, degraded, down = counts
    return {
        "total": total,
        "down": down,
        "degraded": degraded,
        "unknown": unknown,
        "share_down": _share(down, total),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _affected(population: int | None, shares: Mapping[str, AreaShare], known: Known) -> int | None:
    """population × the area share of power; halves up; null where either is not known."""
    power = [shares[kind].any for kind in known.supply_kinds if kind in shares]
    if population is None or not power:
        return None
    return int(np.floor(population * max(power) + 0.5))


# --- returns ----------------------------------------------------------------------------------


def with_returns(
    sites: pd.DataFrame,
    returns: Sequence[Mapping[str, Any]],
    units: Sequence[Mapping[str, Any]],
) -> pd.DataFrame:
    """Replace an operator's kind by its return where the return is the source, never both.

    `sites`: kind, operator, adcode, unit, COUNTS. `returns`: as `geo.counts.by_return`.
    """
    if not returns:
        return sites
    replaced = {(r["operator"], r["kind"]) for r in returns}
    mine = np.array(
        [k in replaced for k in zip(sites["operator"], sites["kind"], strict=True)], bool
    )
    kept = sites[~mine]
    own: dict[tuple[str, str], list[tuple[str | None, str | None, int]]] = defaultdict(list)
    for place, count in places_counted(sites[mine]):
        own[place.operator, place.kind].append((place.adcode, place.unit, count.total))
    hosts = {u["code"]: u["adcodes"] for u in units}
    rows = [
        {**place._asdict(), **count._asdict()}
        for one in returns
        for place, count in by_return(one, own[one["operator"], one["kind"]], hosts)
    ]
    added = pd.DataFrame(rows, columns=[*kept.columns]) if rows else kept.iloc[:0]
    return pd.concat([kept, added], ignore_index=True)
