"""What the database knew at a sequence, handed to `geo.situation`, and the document that results.

The same function answers now and any past moment: `at` chooses the sequence (knowledge), the
divisions, the inventory and the rule packs in force.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pandas as pd
from sqlalchemy import Connection, Engine, text

from data.counters import counters_at, counters_now
from data.database import reading, received_at, sequence_at
from data.divisions import DivisionVersion, district_rows, units, version_at
from data.incidents import open_incidents
from data.outages import next_outage_instant, open_outages
from data.plan_facts import closed_at, declared_facts
from data.power import power_known
from data.power_memory import PowerMemory, settle_at
from data.returns import returns_at
from data.rulepacks import RulePacks
from data.settings import SituationSettings
from data.sources import Source, as_json, heard_at, silent_operators, sources_at, sources_now
from geo.coverage import AreaShare
from geo.rules import RulePack
from geo.situation import COUNTS, Known, NoiseFloor, Situation, situation, with_returns


class AreaShares(Protocol):
    """Whoever knows the area shares at a moment (`data.service_area`)."""

    def shares(
        self,
        connection: Connection,
        version: DivisionVersion,
        sequence: int,
        at: datetime | None,
        outages: Sequence[Mapping[str, Any]],
        kinds: Collection[str] | None = None,
    ) -> dict[str, dict[str, AreaShare]]: ...


@dataclass(frozen=True)
class Moment:
    """A moment of knowledge: through `sequence`, whose time is `as_of`; `at` None means now."""

    sequence: int
    as_of: datetime
    at: datetime | None
    now: datetime
    folded: bool


@dataclass(frozen=True)
class Shown:
    """A situation with what the document says around it."""

    moment: Moment
    result: Situation
    version: DivisionVersion
    sources: list[dict[str, Any]]
    inventory: dict[str, int]
    next_clock_at: datetime | None
    known: Known


def moment_at(connection: Connection, at: datetime | None) -> Moment:
    """The moment of knowledge at `at`, answered from counters as they were."""
    row = connection.execute(text("SELECT now() AS now")).one()
    asked: datetime = at if at is not None and at < row.now else row.now
    sequence = sequence_at(connection, asked)
    received = received_at(connection, sequence)
    return Moment(sequence, received or asked, asked, asked, folded=False)


def shown_at(
    connection: Connection,
    moment: Moment,
    packs: RulePacks,
    settings: SituationSettings,
    area: AreaShares | None = None,
    memory: PowerMemory | None = None,
) -> Shown:
    """Aggregate and grade what was known at a moment. `memory`: of a builder, which asks for one
    sequence after another; the answer is the same without."""
    version = version_at(connection, moment.at)
    in_force = packs.in_force(moment.now)
    counters = (
        counters_now(connection, version.id)
        if moment.folded
        else counters_at(connection, version.id, moment.sequence, moment.now)
    )
    unit_rows = units(connection, version.id)
    sources = sources_now(connection) if moment.folded else sources_at(connection, moment.sequence)
    counts = _counts(connection, counters, sources, unit_rows, moment.sequence)
    operators = sorted({o for o in counts["operator"] if o})
    silent, falls_silent_at = silent_operators(
        operators, heard_at(sources), moment.now, settings.silent_after_minutes
    )
    closed = closed_at(connection, moment.sequence)
    kinds = supply_kinds(in_force)
    declared = {p.plan: declared_facts(connection, p.plan, moment.sequence) for p in in_force}
    settled = (
        None
        if memory is None
        else memory.settled(
            connection,
            moment.sequence,
            closed=closed,
            version_id=version.id,
            kinds=kinds,
            packs=in_force,
            declared=declared,
        )
    )
    since = settled.through if settled else closed
    outages = open_outages(connection, moment.sequence, version.id, moment.now, since)
    power = power_known(
        connection,
        version_id=version.id,
        kinds=kinds,
        sequence=moment.sequence,
        at=moment.at,
        now=moment.now,
        outages=outages,
        since=since,
        silent=silent,
    )
    known = Known(
        districts=district_rows(connection, version.id),
        units=unit_rows,
        counts=counts,
        now=moment.now,
        silent=silent,
        supply=power.supply,
        losses=power.losses,
        supply_earlier=power.earlier,
        event_after=since,
        event_settled=settled,
        settle_at=settle_at(power.instants, moment.now, since) if memory is not None else (),
        incidents=open_incidents(connection, moment.sequence, moment.now),
        declared=declared,
        area_share=area.shares(connection, version, moment.sequence, moment.at, outages)
        if area
        else {},
        supply_kinds=kinds,
    )
    floor = NoiseFloor(settings.noise_floor_sites, settings.noise_floor_share)
    result = situation(known, in_force, floor)
    if memory is not None:
        memory.keep(moment.sequence, result.settled)
    clocks = [
        t
        for t in (
            falls_silent_at,
            result.next_clock_at,
            next_outage_instant(outages, moment.now),
        )
        if t is not None
    ]
    return Shown(
        moment=moment,
        result=result,
        version=version,
        sources=_sources(sources, silent, counts),
        inventory=_inventory(counters),
        next_clock_at=min(clocks, default=None),
        known=known,
    )


def supply_kinds(packs: Sequence[RulePack]) -> tuple[str, ...]:
    """Kinds of facility whose load and customers a plan grades per district."""
    return tuple(
        kind
        for pack in packs
        if "load_mw"
        in (pack.schema.groups["districts"].facts if "districts" in pack.schema.groups else ())
        for kind in pack.facility_kinds
    )


def _counts(
    connection: Connection,
    counters: pd.DataFrame,
    sources: Sequence[Source],
    unit_rows: Sequence[Mapping[str, Any]],
    sequence: int,
) -> pd.DataFrame:
    """Counts per kind, operator, district and unit, with returns where they are the source."""
    keys = ["kind", "operator", "adcode", "unit"]
    counts = counters.groupby(keys, dropna=False, sort=False)[list(COUNTS)].sum().reset_index()
    counts = counts.astype(dict.fromkeys(keys, object))
    counts[["adcode", "unit"]] = counts[["adcode", "unit"]].where(
        counts[["adcode", "unit"]].notna(), None
    )
    by_return = {(s.operator, s.kind) for s in sources if s.kind_of_source == "return"}
    if not by_return:
        return counts
    returns = [
        r for r in returns_at(connection, sequence) if (r["operator"], r["kind"]) in by_return
    ]
    return with_returns(counts, returns, unit_rows)


def _sources(
    sources: Sequence[Source], silent: frozenset[str], counts: pd.DataFrame
) -> list[dict[str, Any]]:
    """Every operator's sources, and those in the inventory that were never heard."""
    sums = counts.groupby(["operator", "kind"])[list(COUNTS)].sum()
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    for (operator, kind), row in zip(sums.index, sums.to_dict("records"), strict=True):
        figures = {name: int(row[name]) for name in COUNTS}
        share = figures["down"] / figures["total"] if figures["total"] else None
        totals[operator, kind] = {**figures, "share_down": share}
    known = {(s.operator, s.kind) for s in sources}
    unheard = [
        Source(operator, kind, "site", None, None)
        for operator, kind in totals
        if operator and (operator, kind) not in known
    ]
    both = sorted([*sources, *unheard], key=lambda s: (s.operator, s.kind))
    return [as_json(s, silent, totals) for s in both if s.operator]


def _inventory(counters: pd.DataFrame) -> dict[str, int]:
    total = int(counters["total"].sum())
    synthetic = int(counters.loc[counters["synthetic"].astype(bool), "total"].sum())
    return {"facilities": total, "synthetic": synthetic}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def document(shown: Shown) -> dict[str, Any]:
    """What `GET /v1/situation` answers."""
    version = shown.version
    return {
        "as_of": shown.moment.as_of.isoformat(),
        "sequence": shown.moment.sequence,
        "divisions": {
            "label": version.label,
            "valid_from": version.valid_from.isoformat(),
            "valid_to": version.valid_to.isoformat() if version.valid_to else None,
            "source": version.source,
            "licence": version.licence,
            "note": version.note,
        },
        "inventory": shown.inventory,
        "synthetic": _share(shown.inventory["synthetic"], shown.inventory["facilities"]),
        "units": shown.result.units,
        "plans": shown.result.plans,
        "districts": shown.result.districts,
        "sources": shown.sources,
    }


def situation_now(
    engine: Engine,
    packs: RulePacks,
    settings: SituationSettings,
    at: datetime | None = None,
    area: AreaShares | None = None,
) -> dict[str, Any]:
    """The document computed here and now, without the builder: for `at=`, the CLI and tests."""
    with reading(engine, snapshot=True) as connection:
        return document(shown_at(connection, moment_at(connection, at), packs, settings, area))
