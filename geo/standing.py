"""How each record of the facts stands to each criterion: met, possibly met, not met.

A record whose class or kind is unknown (a district's load class, an incident's equipment) is graded
case by case: what holds in every case is certain, what holds in some case is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from geo.criteria import Criterion, Exclusion
from geo.facts import Range, Record
from geo.intervals import NO, YES, Span, Truth
from geo.rules import RulePack

# One past the last level: no criterion met. Levels then compare as numbers, smaller being graver.
UNGRADED = 5

Ranges = Mapping[str, Range | None]


@dataclass(frozen=True, slots=True, eq=False)
class RecordStanding:
    """One record against its scope's criteria. `ranges` is what is known of it before any case;
    `truths` has a row per case, a column per criterion."""

    record: Record
    ranges: Ranges
    criteria: tuple[Criterion, ...]
    truths: tuple[tuple[Truth, ...], ...]
    excluded: tuple[Truth, Exclusion | None]

    def certain(self, column: int) -> bool:
        """The criterion is met in every case."""
        return all(row[column] == YES for row in self.truths)

    def possible(self, column: int) -> bool:
        """The criterion may be met in some case."""
        return any(row[column] != NO for row in self.truths)

    def floor(self) -> int:
        """The level certain in every case, from the criteria that count no records."""
        return max(self._levels(row) for row in self.truths)

    def _levels(self, row: tuple[Truth, ...]) -> int:
        met = (
            c.level
            for c, truth in zip(self.criteria, row, strict=True)
            if truth == YES and c.count is None
        )
        return min(met, default=UNGRADED)

    def alternatives(self) -> list[Criterion]:
        """Where the floor is certain only case by case, the criteria that give it, one per case."""
        floor = self.floor()
        settled = [c for n, c in enumerate(self.criteria) if c.count is None and self.certain(n)]
        if floor >= min((c.level for c in settled), default=UNGRADED):
            return []
        found: dict[int, Criterion] = {}
        for row in self.truths:
            met = [
                c
                for c, truth in zip(self.criteria, row, strict=True)
                if truth == YES and c.count is None and c.level <= floor
            ]
            nearest = max(c.level for c in met)
            found |= {c.order: c for c in met if c.level == nearest}
        return [found[order] for order in sorted(found)]


@dataclass(frozen=True, slots=True)
class Standing:
    """All records against all criteria that apply."""

    pack: RulePack
    now: datetime
    records: Mapping[str, tuple[RecordStanding, ...]]
    criteria: tuple[Criterion, ...]
    possible_only: bool
    _meeting: Mapping[int, list[RecordStanding]]
    _possibly_meeting: Mapping[int, list[RecordStanding]]

    def meeting(self, criterion: Criterion) -> list[RecordStanding]:
        """The records that certainly meet the criterion."""
        return self._meeting[criterion.order]

    def possibly_meeting(self, criterion: Criterion) -> list[RecordStanding]:
        """The records that may meet it, those that certainly do among them."""
        return self._possibly_meeting[criterion.order]

    def met(self, criterion: Criterion) -> bool:
        return len(self.meeting(criterion)) >= (criterion.count or 1)

    def at_least(self) -> int:
        """The level certain whatever the unknown facts are; UNGRADED when none is."""
        levels = [c.level for c in self.criteria if self.met(c)]
        levels += [record.floor() for records in self.records.values() for record in records]
        return min(levels, default=UNGRADED)

    def at_most(self) -> int:
        """The gravest level some completion of the unknown facts gives."""
        levels = (c.level for c in self.criteria if len(self.possibly_meeting(c)) >= (c.count or 1))
        return min(levels, default=UNGRADED)

    def exclusion(self) -> Exclusion | None:
        """The clause by which the plan certainly does not apply."""
        for record in self.records[""]:
            truth, exclusion = record.excluded
            if truth == YES:
                return exclusion
        return None


def stand(pack: RulePack, records: Mapping[str, list[Record]], now: datetime) -> Standing:
    """How the records stand at `now`. Criteria of levels that a mere possibility cannot give are
    left out when the facts say it has not happened."""
    possible_only = _possible_only(pack, records)
    criteria = tuple(
        c
        for c in pack.criteria
        if not possible_only or (pack.possibility and c.level in pack.possibility.levels)
    )
    found = {}
    meeting: dict[int, list[RecordStanding]] = {}
    possibly_meeting: dict[int, list[RecordStanding]] = {}
    for scope, group in records.items():
        own = tuple(c for c in criteria if c.scope == scope)
        found[scope] = tuple(_stand_record(pack, scope, record, own, now) for record in group)
        for column, criterion in enumerate(own):
            meeting[criterion.order] = [r for r in found[scope] if r.certain(column)]
            possibly_meeting[criterion.order] = [r for r in found[scope] if r.possible(column)]
    return Standing(pack, now, found, criteria, possible_only, meeting, possibly_meeting)


def _possible_only(pack: RulePack, records: Mapping[str, list[Record]]) -> bool:
    if pack.possibility is None:
        return False
    return any(record.values.get(pack.possibility.fact) is True for record in records[""])


def _stand_record(
    pack: RulePack, scope: str, record: Record, criteria: tuple[Criterion, ...], now: datetime
) -> RecordStanding:
    ranges = record.ranges(now)
    exclusions = () if scope else pack.exclusions
    whole = pack.with_ratios(scope, ranges)
    cases = _cases(pack, scope, ranges)
    truths = []
    for case in cases:
        known = whole if case is ranges else pack.with_ratios(scope, case)
        row = tuple(criterion.holds(known) for criterion in criteria)
        excluded, _ = _excluded(exclusions, known)
        truths.append(tuple(min(truth, YES - excluded) for truth in row))
    return RecordStanding(record, whole, criteria, tuple(truths), _excluded(exclusions, whole))


def _excluded(exclusions: tuple[Exclusion, ...], known: Ranges) -> tuple[Truth, Exclusion | None]:
    best: tuple[Truth, Exclusion | None] = (NO, None)
    for exclusion in exclusions:
        truth = min(condition.holds(known) for condition in exclusion.conditions)
        if truth > best[0]:
            best = (truth, exclusion)
    return best


def _cases(pack: RulePack, scope: str, ranges: dict[str, Range]) -> list[dict[str, Range]]:
    """The record's ranges, once per combination of its unknown words and classes."""
    choices: list[list[tuple[str, Range]]] = []
    for name, cutoffs in pack.splits[scope].items():
        possible = ranges[name]
        if isinstance(possible, frozenset) and len(possible) > 1:
            words = sorted(word or "" for word in possible)
            choices.append([(name, frozenset({word})) for word in words])
        elif isinstance(possible, Span):
            pieces = possible.split(cutoffs)
            if len(pieces) > 1:
                choices.append([(name, piece) for piece in pieces])
    if not choices:
        return [ranges]
    return [{**ranges, **dict(combination)} for combination in product(*choices)]
