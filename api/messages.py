"""Error texts in the reader's language: written in English where they are raised, told in Chinese
from the catalogue `api/locale/zh.po` where an answer leaves.

An entry's `{0}`, `{1}` … stand for what the English text was made with; `{0!t}` in the Chinese text
says that this part is itself a text of the catalogue. A text that is not in the catalogue stays
English. Of several entries that fit, the one with the most letters of its own is taken.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from data.readers.tabular import Lines
from geo.errors import Fault

CATALOGUE = Path(__file__).parent / "locale" / "zh.po"
LENGTH_MAX = 4000
NESTED_MAX = 3
FAULTS_TOLD = 20

_PLACE = re.compile(r"\{(\d)(!t)?\}")


@dataclass(frozen=True)
class Template:
    """An entry whose English has places: its own letters around them, and the Chinese."""

    parts: tuple[str, ...]
    order: tuple[int, ...]
    chinese: str

    @classmethod
    def of(cls, english: str, chinese: str) -> Template:
        pieces = _PLACE.split(english)
        return cls(tuple(pieces[::3]), tuple(int(n) for n in pieces[1::3]), chinese)

    def held(self, text: str) -> dict[int, str] | None:
        """What stands at each place of `text`, None when it is not of this form. Linear in it."""
        first, *middle, last = self.parts
        if not text.startswith(first) or not text.endswith(last):
            return None
        start, end = len(first), len(text) - len(last)
        found = []
        for part in middle:
            at = text.find(part, start, end)
            if at < 0:
                return None
            found.append(text[start:at])
            start = at + len(part)
        if start > end:
            return None
        return dict(zip(self.order, [*found, text[start:end]], strict=True))


class Catalogue:
    """Chinese texts by their English ones."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        self.whole = {en: zh for en, zh in entries.items() if not _PLACE.search(en)}
        templates = [Template.of(en, zh) for en, zh in entries.items() if _PLACE.search(en)]
        templates.sort(key=lambda t: -sum(map(len, t.parts)))
        by_letter: dict[str, list[Template]] = defaultdict(list)
        letters = {t.parts[0][:1] for t in templates}
        for template in templates:
            first = template.parts[0][:1]
            for letter in {first} if first else letters:
                by_letter[letter].append(template)
        self._by_letter = dict(by_letter)
        self._general = [t for t in templates if not t.parts[0]]

    def chinese(self, text: str, nested: int = 0) -> str:
        """The Chinese of an English text, or the text itself. Never raises."""
        known = self.whole.get(text)
        if known is not None or len(text) > LENGTH_MAX or nested > NESTED_MAX:
            return known if known is not None else text
        for template in self._by_letter.get(text[:1], self._general):
            held = template.held(text)
            if held is not None:
                return self._filled(template.chinese, held, nested)
        return text

    def _filled(self, chinese: str, held: Mapping[int, str], nested: int) -> str:
        def put(place: re.Match[str]) -> str:
            text = held.get(int(place[1]), "")
            return self.chinese(text, nested + 1) if place[2] else text

        return _PLACE.sub(put, chinese)


def read_catalogue(text: str) -> dict[str, str]:
    """English → Chinese of a `.po` file; entries without Chinese, or marked fuzzy, are left out.

    Raises ValueError for an English text that stands in it twice.
    """
    entries: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", text):
        said = {"msgid": "", "msgstr": ""}
        current = ""
        for line in block.splitlines():
            word, _, quoted = line.partition(" ")
            if word in said:
                current = word
            elif line.startswith('"'):
                quoted = line
            else:
                continue
            said[current] += json.loads(quoted)
        if not said["msgid"] or not said["msgstr"] or "\n#, fuzzy" in f"\n{block}":
            continue
        if said["msgid"] in entries:
            raise ValueError(f"{said['msgid']!r} stands twice in the catalogue")
        entries[said["msgid"]] = said["msgstr"]
    return entries


@cache
def catalogue() -> Catalogue:
    return Catalogue(read_catalogue(CATALOGUE.read_text(encoding="utf-8")))


@lru_cache(maxsize=4096)
def _chinese(text: str) -> str:
    return catalogue().chinese(text)


def told(text: str, lang: str) -> str:
    """An error text in `lang`: Chinese for `zh`, as it is for anything else."""
    return _chinese(text) if lang == "zh" else text


def told_fault(fault: Fault, lang: str) -> Fault:
    """A fault with its reason in `lang`; row and field stay as they are."""
    return replace(fault, reason=told(fault.reason, lang))


def summary(faults: Sequence[Fault], lang: str) -> str:
    """The first faults as one line for people, each with its row and field."""
    if lang != "zh":
        return "; ".join(str(fault) for fault in faults[:FAULTS_TOLD])
    return "；".join(_sentence(fault) for fault in faults[:FAULTS_TOLD])


def _sentence(fault: Fault) -> str:
    where = (f"第 {fault.row} 行 " if fault.row is not None else "") + (fault.field or "")
    reason = told(fault.reason, "zh")
    return f"{where.strip()}：{reason}" if where else reason


def rejected_rows(
    faults: Iterable[Fault], lang: str, lines: Lines | None = None
) -> list[dict[str, Any]]:
    """One entry per row, in order: `{row, field, reason}`, and `line` in the file where known.

    A row with several faults names its fields together and each before its reason.
    """
    by_row: dict[int | None, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_row[fault.row].append(told_fault(fault, lang))
    separator, colon = ("；", "：") if lang == "zh" else ("; ", ": ")
    rejected = []
    for row in sorted(by_row, key=lambda row: row or 0):
        found = by_row[row]
        fields = list(dict.fromkeys(f.field for f in found if f.field))
        entry: dict[str, Any] = {"row": row}
        if lines is not None and row is not None:
            entry["line"] = lines.of(row)
        reasons = [
            f"{f.field}{colon}{f.reason}" if f.field and len(found) > 1 else f.reason for f in found
        ]
        rejected.append(
            {**entry, "field": ", ".join(fields) or None, "reason": separator.join(reasons)}
        )
    return rejected
