"""A scenario evaluated: the situation as it is known, as it would be, and what differs.

Both are made by `geo.situation` from one snapshot of the database; nothing is stored. With `hours`
the loss of supply is followed through what hangs on it (`geo.cascade`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import shapely
from sqlalchemy import Connection, Engine

from data.accounts import Account
from data.database import WHOLE_CITY, reading, set_scope
from data.facilities_at import PLACED, FacilitiesAt, moment_asked, refuse_strange
from data.outage_split import facilities_of, split_everywhere
from data.outages import open_outages
from data.rulepacks import RulePacks
from data.scenario import Scenario, Selection
from data.scenario_cascade import follow
from data.scenario_world import STANDING_COLUMNS, Standing, World, standing_rows
from data.settings import SituationSettings
from data.situation import Shown, shown_at
from geo.errors import Fault, InvalidInput
from geo.grade import check_facts
from geo.rules import RulePack
from geo.situation import NoiseFloor, Situation, situation

ASSUMED = {
    "hypothetical": (
        "假设情况，未存入实际态势",
        "hypothetical: no part of the real situation",
    ),
    "silence": (
        "各运营单位的沉默状态保持不变",
        "operators are taken to be as silent as they are now",
    ),
    "area": (
        "假设下不计算停供面积与受影响人口",
        "area shares and people affected are not computed for what is supposed",
    ),
    "no_battery": (
        "没有或未知蓄电池的设施断电即停",
        "what has no battery, or none that is known, stops when its supply does",
    ),
    "lifts": (
        "电梯停运不推定有人被困；被困人数须在情景中给出",
        "a stopped lift is not taken to hold people; say how many are stranded as an incident",
    ),
    "known_down": (
        "情景之前已失电的供电设施不继续推演，除非情景点名",
        "what was lost before the scenario is not followed on unless the scenario names it",
    ),
}


@dataclass
class _Run:
    connection: Connection
    facilities: FacilitiesAt
    scenario: Scenario
    shown: Shown
    version_id: int
    packs: Sequence[RulePack]
    floor: NoiseFloor
    account: Account
    world: World
    named: dict[int, Standing]
    lost: dict[str, Standing]
    selected: list[dict[str, Any]]

    def graded(self, world: World, now: datetime | None = None) -> Situation:
        return situation(world.suppose(now), self.packs, self.floor)


def evaluate(
    engine: Engine,
    scenario: Scenario,
    packs: RulePacks,
    settings: SituationSettings,
    *,
    account: Account,
    lang: str = "zh",
) -> dict[str, Any]:
    """present, hypothetical and difference; with `hours` a `cascade`. Nothing is written.

    Raises InvalidInput for a facility, district or outage that is not there at that moment.
    """
    with reading(engine, snapshot=True) as connection:
        moment = moment_asked(connection, scenario.at)
        shown = shown_at(connection, moment, packs, settings)
        returns = frozenset(
            (s["operator"], s["kind"]) for s in shown.sources if s["source"] == "return"
        )
        run = _Run(
            connection,
            FacilitiesAt(connection, moment),
            scenario,
            shown,
            shown.version.id,
            packs.in_force(moment.now),
            NoiseFloor(settings.noise_floor_sites, settings.noise_floor_share),
            account,
            World(shown.known, returns),
            {},
            {},
            [],
        )
        _apply(engine, run)
        result = run.graded(run.world)
        answer = {
            "at": scenario.at.isoformat() if scenario.at else None,
            "as_of": moment.as_of.isoformat(),
            "sequence": moment.sequence,
            "scope": {"districts": list(account.districts)},
            "selected": run.selected,
            "changed": run.world.changed(),
            "present": _side(shown.result),
            "hypothetical": _side(result),
            "difference": difference(_side(shown.result), _side(result)),
        }
        codes = ["hypothetical", "silence", "area"]
        if scenario.hours is not None:
            answer["cascade"] = _followed(run, scenario.hours)
            codes += ["no_battery", "lifts", "known_down"]
    answer["assumed"] = [{"code": c, "text": ASSUMED[c][lang == "en"]} for c in codes]
    return answer


# --- the changes ------------------------------------------------------------------------------


def _apply(engine: Engine, run: _Run) -> None:
    now, moment = run.shown.moment.now, run.shown.moment
    current = [
        o for o in open_outages(run.connection, moment.sequence, run.version_id, now) if o["open"]
    ]
    kinds = run.shown.known.supply_kinds
    cover = run.facilities.covered_supply(run.version_id, current, kinds)
    run.world.covered |= {row.pk for row in cover}
    for selection in run.scenario.selections:
        rows = _selected(run, selection)
        moved = sum(run.world.set_state(one, selection.state, now) for one in rows)
        for one in rows:
            run.named[one.pk] = one
            if selection.state == "down":
                run.lost[one.facility_id] = one
            else:
                run.lost.pop(one.facility_id, None)
        run.selected.append({"facilities": len(rows), "changed": moved, "state": selection.state})
    for outage in run.scenario.outages:
        named = facilities_of(run.connection, outage)
        split = split_everywhere(engine, run.connection, outage, named)[str(run.version_id)]
        asked = {
            "open": True,
            "facility_ids": outage.facility_ids,
            "geometry": outage.geometry,
        }
        for one in _covered(run, [asked]):
            run.world.cover(one, now)
            run.lost[one.facility_id] = one
        if not outage.planned:
            run.world.lose(split, outage.main_grid, now)
    for outage_id in run.scenario.restored_outages:
        ended = [o for o in current if o["outage_id"] == outage_id]
        if not ended:
            raise InvalidInput([Fault("is no open outage at that time", None, "restore.outages")])
        current = [o for o in current if o["outage_id"] != outage_id]
        if not ended[0]["planned"]:
            run.world.regain(ended[0]["split"], ended[0]["main_grid"], now)
        still = {one.pk for one in _covered(run, current)}
        for one in _covered(run, ended):
            if one.pk not in still:
                run.world.uncover(one, now)
    _suppose_incidents(run, run.world, -1, 0)


def _covered(run: _Run, outages: Sequence[Mapping[str, Any]]) -> list[Standing]:
    kinds = run.shown.known.supply_kinds
    found = run.facilities.covered_supply(run.version_id, outages, kinds)
    return _standing(run, "f.pk = ANY (:pks)", {"pks": [row.pk for row in found]})


def _suppose_incidents(run: _Run, world: World, after: int, upto: int) -> None:
    """Open the incidents of the minutes `(after, upto]`; those of the beginning have minute 0."""
    now = run.shown.moment.now
    packs = {pack.plan: pack for pack in run.packs}
    for number, one in enumerate(run.scenario.incidents, 1):
        pack = packs.get(one.plan)
        if pack is None or "districts" in pack.schema.groups:
            raise InvalidInput([Fault("is no plan that grades incidents", None, "incident.plan")])
        if not after < one.minute <= upto:
            continue
        began = now + timedelta(minutes=one.minute)
        facts = {"equipment": one.kind, **one.facts}
        if facts.get("people_stranded") and "stranded_hours" not in facts:
            facts.setdefault("stranded_since", began.isoformat())
        check_facts(pack, facts)
        world.add_incident(
            {
                "incident_id": f"supposed-{number}",
                "plan": one.plan,
                "kind": one.kind,
                "adcode": one.adcode,
                "unit": one.adcode,
                "facts": facts,
            }
        )


def _selected(run: _Run, selection: Selection) -> list[Standing]:
    """The facilities of a selection within the caller's districts, in force at that moment."""
    refuse_strange(run.connection, selection.kind, selection.operator, selection.row)
    where: list[str] = ["true"]
    values: dict[str, Any] = {}
    if selection.facility_ids:
        where.append("f.facility_id = ANY (:ids)")
        values["ids"] = list(selection.facility_ids)
    if selection.kind is not None:
        where.append("f.kind = :kind")
        values["kind"] = selection.kind
    if selection.operator is not None:
        where.append("f.operator = :operator")
        values["operator"] = selection.operator
    region, more = selection.region, ""
    if region is not None and region.geometry is not None:
        where.append("ST_Intersects(f.geom, ST_SetSRID(CAST(:shape AS geometry), 4326))")
        values["shape"] = shapely.to_wkb(region.geometry, hex=True)
    elif region is not None:
        known = set(run.shown.known.adcodes)
        strange = [code for code in region.adcodes if code not in known]
        if strange:
            named = ", ".join(strange[:10])
            reason = f"the divisions used have no district {named}"
            raise InvalidInput([Fault(reason, selection.row, "adcodes")])
        more = " WHERE d.adcode = ANY (:adcodes)"
        values["adcodes"] = list(region.adcodes)
    set_scope(run.connection, run.account.scope)
    try:
        rows = _standing(run, " AND ".join(where), values, more)
    finally:
        set_scope(run.connection, WHOLE_CITY)
    missing = set(selection.facility_ids) - {one.facility_id for one in rows}
    if missing:
        some = ", ".join(sorted(missing)[:10])
        raise InvalidInput([Fault(f"not in the inventory: {some}", selection.row, "facilities")])
    return rows


def _standing(run: _Run, where: str, values: Mapping[str, Any], more: str = "") -> list[Standing]:
    select = f"{STANDING_COLUMNS} FROM standing {PLACED}{more} ORDER BY standing.facility_id"
    own = {**values, "version": run.version_id}
    return standing_rows(run.facilities.select(select, where, own))


def _followed(run: _Run, hours: float) -> dict[str, Any]:
    supplied = [one.facility_id for one in run.named.values() if run.world.state_of(one) == "up"]
    return follow(
        run.facilities,
        run.version_id,
        run.world,
        lost=run.lost,
        supplied=supplied,
        hours=hours,
        grade=run.graded,
        suppose_incidents=partial(_suppose_incidents, run),
        incident_minutes=[one.minute for one in run.scenario.incidents],
    )


# --- what differs -----------------------------------------------------------------------------


def _side(result: Situation) -> dict[str, Any]:
    return {"plans": result.plans, "districts": result.districts}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Levels of plans, and of districts the figures, that are not the same on both sides."""
    plans = {
        plan: {"from": _grade(before["plans"].get(plan)), "to": _grade(now)}
        for plan, now in after["plans"].items()
        if _grade(before["plans"].get(plan)) != _grade(now)
    }
    rows = {row["adcode"]: row for row in before["districts"]}
    districts = []
    for row in after["districts"]:
        old = rows.get(row["adcode"], {})
        changes = {
            name: {"from": old.get(name), "to": row[name]}
            for name in ("level", "plans", "facilities", "load", "customers", "incidents")
            if old.get(name) != row[name]
        }
        if changes:
            districts.append({"adcode": row["adcode"], "name": row["name"], **changes})
    return {"plans": plans, "districts": districts}


def _grade(assessment: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if assessment is None:
        return None
    grade = {name: assessment[name] for name in ("level", "label", "bounds")}
    if "current" in assessment:
        grade["current"] = assessment["current"]["level"]
    return grade
