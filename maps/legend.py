"""What the map can be coloured by under a plan, with the plan's own thresholds as fixed bins.

No threshold is typed here. The bins of a share are the bounds of the rule pack's criteria on that
share per district, whatever they are; a pack without such criteria is coloured by level alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from maps.style import LIGHT_INK, Style, ink_on
from maps.text import METRICS, Lang, say

# The packs' shares per district → which figures of a district in the situation they divide.
SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "share_down": "facilities",
        "district_load_shed_share": "load",
        "district_customers_out_share": "customers",
    }
)
LEVEL = "level"


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to colour the districts.

    `source` is `facilities` (pooled over `kinds`), `load`, `customers` or `level`. `edges` are the
    plan's thresholds, ascending; a share s lies in bin 0 if nothing is lost, in bin 1 above zero
    and below the first edge, in bin k+1 from edge k on (edges belong to the bin above them).
    """

    id: str
    source: str
    label: str
    short: str
    edges: tuple[Fraction, ...] = ()
    kinds: tuple[str, ...] = ()

    def bin_of(self, part: int, whole: int) -> int | None:
        """The bin of part ÷ whole, compared as integers; None for 0 of 0."""
        if whole <= 0:
            return None
        if part <= 0:
            return 0
        return 1 + sum(part * edge.denominator >= whole * edge.numerator for edge in self.edges)

    def bin_labels(self) -> tuple[str, ...]:
        """`0`, `> 0 – < 50%`, `≥ 50%` for the edge 1/2."""
        if self.source == LEVEL:
            return ()
        labels = ["0"]
        for number, edge in enumerate(self.edges):
            low = f"≥ {percent(self.edges[number - 1])}" if number else "> 0"
            labels.append(f"{low} – < {percent(edge)}")
        labels.append(f"≥ {percent(self.edges[-1])}" if self.edges else "> 0")
        return tuple(labels)

    def as_json(self, style: Style) -> dict[str, Any]:
        """For the page's script; edges as integer fractions, colours by bin."""
        colours: tuple[str, ...] = ()
        if self.source != LEVEL:
            colours = (style.nothing_down, *style.share_colours(len(self.edges) + 1))
        return {
            "id": self.id,
            "source": self.source,
            "label": self.label,
            "short": self.short,
            "kinds": list(self.kinds),
            "edges": [{"num": edge.numerator, "den": edge.denominator} for edge in self.edges],
            "bins": list(self.bin_labels()),
            "colours": list(colours),
            "dark": [ink_on(colour) == LIGHT_INK for colour in colours],
        }


def measures(pack: Mapping[str, Any], lang: Lang) -> tuple[Measure, ...]:
    """The measures of a plan, the one shown first at the front; by level is always among them."""
    found: list[Measure] = []
    names = metric_names(pack, lang)
    for metric, edges in district_share_edges(pack).items():
        source = SOURCES.get(metric)
        if source is not None:
            kinds = tuple(pack.get("facility_kinds") or ()) if source == "facilities" else ()
            label, short = names.get(metric, metric), say(lang, f"measure_{source}")
            found.append(Measure(metric, source, label, short, edges, kinds))
    by_level = Measure(LEVEL, LEVEL, say(lang, "measure_level_long"), say(lang, "measure_level"))
    return (*found, by_level)


def district_share_edges(pack: Mapping[str, Any]) -> dict[str, tuple[Fraction, ...]]:
    """Metric → the different bounds, ascending, of the pack's criteria on a share per district."""
    edges: dict[str, set[Fraction]] = {}
    for rule in criteria(pack):
        if rule.get("scope") == "districts" and rule.get("unit") == "share":
            edges.setdefault(str(rule["metric"]), set()).add(exact(rule["threshold"]))
    return {metric: tuple(sorted(bounds)) for metric, bounds in edges.items()}


def criteria(pack: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The pack's criteria, gravest first as the pack lists them."""
    rules = pack.get("criteria")
    return rules if isinstance(rules, Sequence) else ()


def metric_names(pack: Mapping[str, Any], lang: Lang) -> dict[str, str]:
    """Metric or fact id → its name in the pack; shares, which are computed, have theirs here."""
    named = {str(f["name"]): str(f["title"]) for f in pack.get("facts") or () if f.get("title")}
    return dict(METRICS[lang]) | named


def exact(bound: object) -> Fraction:
    """0.15 is 3/20: a float stands for its shortest decimal form."""
    return Fraction(Decimal(str(bound)))


def percent(share: Fraction) -> str:
    """1/2 → `50%`; exact to two decimals, which every plan's bounds are."""
    return f"{float(share * 100):.2f}".rstrip("0").rstrip(".") + "%"
