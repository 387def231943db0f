"""Reading a rule pack strictly: typed values, unknown keys refused, faults with file and line.

A pack arrives as nested dictionaries. `PackSource` knows on which line of which file each of its
keys stands; `PackTable` reads one table of it and notes every fault, so that one `PlanError` names
all. An absent or faulty value is read as an empty one; `raise_faults` comes before any use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from geo.errors import PlanError
from geo.intervals import Number, exact

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class PackSource:
    """A pack's file name and the 1-based line of each key path, as far as they are known."""

    name: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """`file:line` of the key, or of the nearest table around it."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return f"{self.name}:{line}"
        return self.name


def spelled(path: KeyPath) -> str:
    """A key path as people write it: criteria[3].bound, the first criterion being 1."""
    text = ""
    for key in path:
        text += f"[{key + 1}]" if isinstance(key, int) else f".{key}" if text else key
    return text


class PackTable:
    """One table of a pack. Reading a key marks it as known; `close` refuses the rest."""

    def __init__(
        self, data: object, source: PackSource, path: KeyPath = (), faults: list[str] | None = None
    ) -> None:
        self.source, self.path = source, path
        self.faults: list[str] = [] if faults is None else faults
        self._read: set[str] = set()
        self.data: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        if not isinstance(data, Mapping):
            self.fault("must be a table")

    def fault(self, reason: str, *keys: str | int) -> None:
        path = (*self.path, *keys)
        place = f"{spelled(path)}: " if path else ""
        self.faults.append(f"{self.source.where(path)}: {place}{reason}")

    def raise_faults(self) -> None:
        if self.faults:
            raise PlanError("; ".join(self.faults))

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def close(self) -> None:
        for key in self.data:
            if key not in self._read:
                known = ", ".join(sorted(self._read))
                self.fault(f"unknown key; known here are {known}", key)

    def raw(self, key: str, required: bool = False) -> Any:
        self._read.add(key)
        if required and key not in self.data:
            self.fault(f"{key} is missing")
        return self.data.get(key)

    def text(self, key: str, required: bool = True, choices: Sequence[str] = ()) -> str:
        value = self.raw(key, required)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.fault("must be text that is not empty", key)
            return ""
        if choices and value not in choices:
            self.fault(f"{value!r} is not one of {', '.join(choices)}", key)
            return ""
        return value

    def pattern(self, key: str) -> re.Pattern[str] | None:
        value = self.text(key, required=False)
        try:
            return re.compile(value) if value else None
        except re.error as error:
            self.fault(f"is not a regular expression: {error}", key)
            return None

    def integer(self, key: str, low: int, high: int, required: bool = True) -> int | None:
        value = self.raw(key, required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault(f"must be a whole number from {low} to {high}", key)
            return None
        return value

    def number(self, key: str, required: bool = True) -> Number | None:
        value = self.raw(key, required)
        return None if value is None else self.exact(value, key)

    def exact(self, value: object, *keys: str | int) -> Number | None:
        if isinstance(value, str):
            self.fault("must be a number, not text", *keys)
            return None
        try:
            return exact(value)
        except ValueError:
            self.fault("must be a finite number", *keys)
            return None

    def flag(self, key: str) -> bool:
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            self.fault("must be true or false", key)
        return value is True

    def day(self, key: str, required: bool = True) -> date | None:
        value = self.raw(key, required)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return date.fromisoformat(value)
            except ValueError:
                value = None
        if not isinstance(value, date) or isinstance(value, datetime):
            self.fault("must be a date such as 2024-11-23", key)
            return None
        return value

    def words(self, key: str, required: bool = True) -> tuple[str, ...]:
        value = self.raw(key, required)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
            self.fault("must be a list of words", key)
            return ()
        if len(set(value)) < len(value):
            self.fault("names a word twice", key)
        return tuple(value)

    def bilingual(self, key: str) -> dict[str, str]:
        table = self.table(key)
        texts = {lang: table.text(lang) for lang in ("zh", "en")}
        table.close()
        return texts

    def table(self, key: str, required: bool = True) -> PackTable:
        value = self.raw(key, required)
        return PackTable(
            {} if value is None else value, self.source, (*self.path, key), self.faults
        )

    def named(self, key: str) -> dict[str, PackTable]:
        """A table of tables, by name; empty when absent."""
        outer = self.table(key, required=False)
        return {name: outer.table(name) for name in outer.data}

    def tables(self, key: str, required: bool = True) -> list[PackTable]:
        value = self.raw(key, required)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault("must be an array of tables", key)
            return []
        return [
            PackTable(item, self.source, (*self.path, key, n), self.faults)
            for n, item in enumerate(value)
        ]
