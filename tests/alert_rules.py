"""The metrics an expression of Prometheus reads, for tests: names, and what their labels must be."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Words of the language, not metrics.
WORDS = frozenset(
    (
        *("and", "or", "unless", "on", "by", "without", "ignoring", "group_left", "group_right"),
        *("bool", "offset", "abs", "histogram_quantile", "increase", "max", "min", "rate", "sum"),
        *("time", "timestamp"),
    )
)
LABELS = re.compile(r"\b(by|on|without|group_left|group_right)\s*\([^()]*\)")
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Selector:
    """A metric with what its labels must be: name, operator, value."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> list[Selector]:
    """Every metric the expression reads. Raises ValueError for brackets that do not close."""
    bare = TEXT.sub("", expression)
    for opening, closing in ("()", "{}", "[]"):
        if bare.count(opening) != bare.count(closing):
            raise ValueError(f"{opening} and {closing} do not match in {expression}")
    said = re.sub(r"\[\w+\]", "", LABELS.sub(" ", expression))
    found = []
    for name, braces in SELECTOR.findall(said):
        if name in WORDS:
            continue
        matchers = tuple((k, op, v.strip('"')) for k, op, v in MATCHER.findall(braces))
        found.append(Selector(name, matchers))
    return found
