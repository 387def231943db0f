"""The facts a plan grades: their schema, the check of a caller's facts, what is possible of each.

A pack declares its facts in groups: the plan's own facts (group "", one record), an object such as
`city` (one record) and lists such as `districts` (a record per entry, keyed by code). Null or
absent is unknown, never zero: each number has a span of possible values, narrowed by its schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from geo.errors import Fault, InvalidInput
from geo.intervals import MAYBE, NO, YES, Number, Span, Truth, exact
from geo.packsource import PackTable

TYPES = ("integer", "number", "boolean", "enum", "datetime")
LARGEST = 10**15
LONGEST_TEXT = 200
CLOCK_SKEW = timedelta(minutes=5)

Value = int | Fraction | bool | str | datetime | None
Range = Span | Truth | frozenset[str | None]

#: A name that could be a fact's; anything else somebody sent is not repeated.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of a record. Numbers are ≥ 0; `step` is the smallest amount worth naming."""

    name: str
    type: str
    title: Mapping[str, str]
    unit: str | None = None
    values: tuple[str, ...] = ()
    part_of: str | None = None
    widened_by: str | None = None
    default: Value = None
    none_when_absent: bool = False
    declared: bool = False
    fixed: bool = False
    step: Number = 1
    implied_by: str | None = None
    implied_at_least: Number = 0
    since: str | None = None
    until: str | None = None

    @property
    def numeric(self) -> bool:
        return self.type in ("integer", "number")


@dataclass(frozen=True, slots=True)
class Group:
    """The facts of one kind of record; `keys` are the names an entry may give its code under."""

    name: str
    facts: Mapping[str, Fact]
    many: bool = False
    keys: tuple[str, ...] = ()
    key_pattern: re.Pattern[str] | None = None
    key_remedy: str = ""
    max_items: int = 500


@dataclass(frozen=True, slots=True)
class Record:
    """Facts of one record as exact values; `code` is an entry's code, else None."""

    group: Group
    code: str | None
    values: Mapping[str, Value]
    place: str = ""

    def hours(self, fact: Fact, now: datetime) -> Number | None:
        """Hours by the clock at `now`, exact; None when the record gives no beginning."""
        since = self.values.get(fact.since or "")
        if not isinstance(since, datetime):
            return None
        until = self.values.get(fact.until or "")
        end = min(until, now) if isinstance(until, datetime) else now
        elapsed_us = max(end - since, timedelta(0)) // timedelta(microseconds=1)
        return Fraction(elapsed_us, 3_600_000_000)

    def ranges(self, now: datetime) -> dict[str, Range]:
        """What each fact may be, from what is known of this record at `now`."""
        found: dict[str, Range] = {}
        for fact in self.group.facts.values():
            if fact.type == "boolean":
                found[fact.name] = self._truth(fact)
            elif fact.type == "enum":
                found[fact.name] = self._choice(fact)
            elif fact.type != "datetime":
                found[fact.name] = self._span(fact, now)
        for fact in self.group.facts.values():
            if fact.implied_by and self.values.get(fact.name) is None:
                cause = found[fact.implied_by]
                if isinstance(cause, Span) and cause.low > 0:
                    found[fact.name] = Span(fact.implied_at_least, None)
        return found

    def _truth(self, fact: Fact) -> Truth:
        value = self.values.get(fact.name)
        if value is None:
            value = fact.default
        if value is None:
            return NO if fact.declared else MAYBE
        return YES if value else NO

    def _choice(self, fact: Fact) -> frozenset[str | None]:
        value = self.values.get(fact.name)
        if isinstance(value, str):
            return frozenset({value})
        if fact.declared or fact.none_when_absent:
            return frozenset({None})
        return frozenset(fact.values)

    def number(self, name: str | None) -> Number | None:
        """The number given for a fact, or its default; None when unknown."""
        fact = self.group.facts.get(name or "")
        if fact is None:
            return None
        value = self.values.get(fact.name)
        value = fact.default if value is None else value
        return value if isinstance(value, int | Fraction) else None

    def _span(self, fact: Fact, now: datetime) -> Span:
        value = self.number(fact.name)
        if value is None and fact.since:
            value = self.hours(fact, now)
        if value is not None:
            more = self.number(fact.widened_by) if fact.widened_by else None
            return Span(value, value + more if more else value)
        if fact.part_of:
            return Span(0, self.number(fact.part_of))
        return Span(self._largest_part(fact), None)

    def _largest_part(self, whole: Fact) -> Number:
        parts = [fact for fact in self.group.facts.values() if fact.part_of == whole.name]
        sums = [
            (self.number(part.name) or 0) + (self.number(part.widened_by) or 0) for part in parts
        ]
        return max(sums, default=0)


@dataclass(frozen=True, slots=True)
class FactSchema:
    """Every group of a plan's facts; group "" holds the plan's own."""

    groups: Mapping[str, Group]

    def records(self, facts: object, now: datetime | None = None) -> dict[str, list[Record]]:
        """Each group's records, exact. Raises InvalidInput naming every fault; `now` adds the check
        that nothing began later than five minutes from it."""
        faults: list[Fault] = []
        if not isinstance(facts, Mapping):
            raise InvalidInput([Fault("facts must be an object of named facts")])
        own = self.groups[""]
        nested = [group for name, group in self.groups.items() if name]
        plain_facts = {k: v for k, v in facts.items() if k not in self.groups or k == ""}
        others = [group.name for group in nested]
        found = {"": [_read_record(own, plain_facts, "", None, now, faults, others)]}
        for group in nested:
            given = facts.get(group.name)
            if group.many:
                found[group.name] = list(_read_list(group, given, now, faults))
            else:
                record = {} if given is None else given
                found[group.name] = [_read_record(group, record, group.name, None, now, faults)]
        if faults:
            raise InvalidInput(faults)
        return found


def _read_list(
    group: Group, given: object, now: datetime | None, faults: list[Fault]
) -> Iterator[Record]:
    if given is None:
        return
    if not isinstance(given, list | tuple):
        faults.append(Fault("must be a list", field=group.name))
        return
    if len(given) > group.max_items:
        reason = f"has {len(given)} entries; at most {group.max_items} are read"
        faults.append(Fault(reason, field=group.name))
        return
    seen: dict[str, str] = {}
    for n, entry in enumerate(given):
        place = f"{group.name}[{n}]"
        code = _read_code(group, entry, place, faults) if isinstance(entry, Mapping) else None
        if code in seen:
            reason = f"{code} is listed twice, first at {seen[code]}; give each once"
            faults.append(Fault(reason, field=f"{place}.{group.keys[0]}"))
        elif code is not None:
            seen[code] = place
        yield _read_record(group, entry, place, code, now, faults, group.keys)


def _read_code(
    group: Group, entry: Mapping[str, Any], place: str, faults: list[Fault]
) -> str | None:
    given = [key for key in group.keys if entry.get(key) is not None]
    names = " or ".join(group.keys)
    if len(given) != 1:
        reason = f"give {names}" + (", not both" if given else "; it is missing")
        faults.append(Fault(reason, field=f"{place}.{group.keys[0]}"))
        return None
    code = entry[given[0]]
    where = f"{place}.{given[0]}"
    if not isinstance(code, str) or not code or len(code) > LONGEST_TEXT:
        faults.append(Fault(f"must be text; {group.key_remedy}", field=where))
        return None
    if group.key_pattern and not group.key_pattern.fullmatch(code):
        faults.append(Fault(f"{code!r} is not a code known here; {group.key_remedy}", field=where))
        return None
    return code


def _read_record(
    group: Group,
    given: object,
    place: str,
    code: str | None,
    now: datetime | None,
    faults: list[Fault],
    other_names: list[str] | tuple[str, ...] = (),
) -> Record:
    values: dict[str, Value] = {}
    record = Record(group, code, values, place)
    if not isinstance(given, Mapping):
        faults.append(Fault("must be an object of named facts", field=place or None))
        return record
    prefix = f"{place}." if place else ""
    before = len(faults)
    for name, value in given.items():
        fact = group.facts.get(name) if isinstance(name, str) else None
        if fact is not None:
            try:
                values[fact.name] = _read_value(fact, value)
            except ValueError as error:
                faults.append(Fault(str(error), field=prefix + fact.name))
        elif name not in group.keys and (not other_names or name not in other_names):
            known = ", ".join([*other_names, *group.facts])
            shown = name if isinstance(name, str) and _NAME.fullmatch(name) else "…"
            faults.append(Fault(f"unknown fact; known are {known}", field=prefix + shown))
    if len(faults) == before:
        for fact in group.facts.values():
            _check_part(record, fact, prefix, faults)
            if fact.since:
                _check_clock(record, fact, prefix, now, faults)
    return record


def _read_value(fact: Fact, value: object) -> Value:
    """The exact value; ValueError says what is wrong and what to give."""
    if value is None:
        return None
    if fact.type == "boolean":
        if isinstance(value, bool):
            return value
        raise ValueError("must be true, false or null")
    if fact.type == "enum":
        if isinstance(value, str) and value in fact.values:
            return value
        raise ValueError(f"must be one of {', '.join(fact.values)}")
    if fact.type == "datetime":
        return _read_time(value)
    kind = "a whole number" if fact.type == "integer" else "a number"
    if isinstance(value, str):
        raise ValueError(f"must be {kind}, not text")
    try:
        number = exact(value)
    except ValueError as error:
        raise ValueError(f"must be {kind}, finite, or null where unknown") from error
    if fact.type == "integer" and not isinstance(number, int):
        raise ValueError("must be a whole number")
    if not 0 <= number <= LARGEST:
        raise ValueError("must not be negative" if number < 0 else f"must be at most {LARGEST:.0e}")
    return number


def _read_time(value: object) -> datetime:
    if isinstance(value, str) and len(value) <= LONGEST_TEXT:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise ValueError("must be a time such as 2025-08-01T14:30:00+08:00")
    if value.utcoffset() is None:
        raise ValueError("must say its offset from UTC, such as +08:00")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside the years 1 to 9999") from error


def _check_part(record: Record, fact: Fact, prefix: str, faults: list[Fault]) -> None:
    if not fact.part_of:
        return
    part, whole = record.values.get(fact.name), record.values.get(fact.part_of)
    if not isinstance(part, int | Fraction) or not isinstance(whole, int | Fraction):
        return
    if part > whole:
        reason = f"is more than {fact.part_of}; a part cannot exceed its whole"
        faults.append(Fault(reason, field=prefix + fact.name))
        return
    more = record.values.get(fact.widened_by or "")
    if isinstance(more, int | Fraction) and more <= whole < part + more:
        reason = f"with {fact.widened_by} is more than {fact.part_of}; the two exclude each other"
        faults.append(Fault(reason, field=prefix + fact.name))


def _check_clock(
    record: Record, fact: Fact, prefix: str, now: datetime | None, faults: list[Fault]
) -> None:
    since, until = (record.values.get(name or "") for name in (fact.since, fact.until))
    if record.values.get(fact.name) is not None and (since is not None or until is not None):
        reason = f"give either {fact.name} or {fact.since} and {fact.until}, not both"
        faults.append(Fault(reason, field=prefix + fact.name))
    elif isinstance(until, datetime) and not isinstance(since, datetime):
        faults.append(Fault(f"needs {fact.since}", field=f"{prefix}{fact.until}"))
    elif isinstance(since, datetime):
        if isinstance(until, datetime) and until < since:
            faults.append(Fault(f"is before {fact.since}", field=f"{prefix}{fact.until}"))
        if now is not None and since > now + CLOCK_SKEW:
            reason = "is more than five minutes in the future; check the clock and the offset"
            faults.append(Fault(reason, field=f"{prefix}{fact.since}"))


def read_schema(pack: PackTable) -> FactSchema:
    """The schema in a pack's `facts` and `groups`; faults are noted in the table."""
    groups = {"": Group("", _read_facts(pack))}
    for name, table in pack.named("groups").items():
        many = table.flag("many")
        facts = _read_facts(table)
        keys = table.words("keys", required=many)
        pattern, remedy = table.pattern("key_pattern"), table.text("key_remedy", required=False)
        most = table.integer("max_items", 1, 100_000, required=many)
        if keys and not many:
            table.fault("only a list (many = true) has keys", "keys")
        table.close()
        groups[name] = Group(name, facts, many, keys, pattern, remedy, most or 1)
    clash = set(groups) & set(groups[""].facts)
    for name in sorted(clash):
        pack.fault("names both a fact and a group", "facts", name)
    return FactSchema(groups)


def _read_facts(table: PackTable) -> dict[str, Fact]:
    tables = table.named("facts")
    facts = {name: _read_fact(name, entry) for name, entry in tables.items()}
    for name, fact in facts.items():
        references = {
            "part_of": (fact.part_of, ("integer", "number")),
            "widened_by": (fact.widened_by, ("integer", "number")),
            "implied_by": (fact.implied_by, ("integer", "number")),
            "since": (fact.since, ("datetime",)),
            "until": (fact.until, ("datetime",)),
        }
        for key, (other, types) in references.items():
            if other is not None and (other not in facts or facts[other].type not in types):
                tables[name].fault(f"{other!r} is no {' or '.join(types)} fact beside it", key)
    return facts


def _read_fact(name: str, table: PackTable) -> Fact:
    kind = table.text("type", choices=TYPES)
    numeric = kind in ("integer", "number")
    values = table.words("values", required=kind == "enum")
    absent = table.text("absent", required=False, choices=("none",))
    default = table.raw("default")
    if default is not None:
        if numeric:
            default = table.exact(default, "default")
        elif kind != "boolean" or not isinstance(default, bool):
            table.fault(f"a default of this type does not fit {kind}", "default")
    fact = Fact(
        name=name,
        type=kind,
        title=table.bilingual("title"),
        unit=table.text("unit", required=numeric) or None,
        values=values,
        part_of=table.text("part_of", required=False) or None,
        widened_by=table.text("widened_by", required=False) or None,
        default=default,
        none_when_absent=absent == "none",
        declared=table.flag("declared"),
        fixed=table.flag("fixed"),
        step=table.number("step", required=False) or 1,
        implied_by=table.text("implied_by", required=False) or None,
        implied_at_least=table.number("implied_at_least", required=False) or 0,
        since=table.text("since", required=False) or None,
        until=table.text("until", required=False) or None,
    )
    if fact.declared and numeric:
        table.fault("only a truth or an enum can be declared", "declared")
    if fact.step <= 0:
        table.fault("must be more than 0", "step")
    table.close()
    return fact
