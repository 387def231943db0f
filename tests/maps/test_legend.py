"""The bins of the map are the thresholds of the rule packs, and colours can be told apart."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from maps import legend
from maps.style import Style, contrast, ink_on
from maps.text import KINDS, METRICS, WORDS
from tests import situations

COMMS, POWER, SPECIAL = situations.PLANS


def _thresholds(plan: str, metric: str) -> set[Fraction]:
    return {
        Fraction(str(rule["threshold"]))
        for rule in situations.packs()[plan]["criteria"]
        if rule["metric"] == metric and rule["scope"] == "districts"
    }


@pytest.mark.parametrize(
    ("plan", "metric"),
    [
        (COMMS, "share_down"),
        (POWER, "district_load_shed_share"),
        (POWER, "district_customers_out_share"),
    ],
)
def test_the_bins_are_the_packs_thresholds(plan, metric):
    measure = next(m for m in legend.measures(situations.packs()[plan], "zh") if m.id == metric)
    assert set(measure.edges) == _thresholds(plan, metric)
    assert list(measure.edges) == sorted(measure.edges)


def test_another_threshold_in_the_pack_gives_another_bin():
    pack = situations.packs()[COMMS]
    for rule in pack["criteria"]:
        if rule["metric"] == "share_down":
            rule["threshold"] = 0.35
    (measure, _) = legend.measures(pack, "zh")
    assert measure.edges == (Fraction(7, 20),)
    assert measure.bin_labels() == ("0", "> 0 – < 35%", "≥ 35%")


def test_communications_pools_the_kinds_the_pack_grades():
    measure = legend.measures(situations.packs()[COMMS], "zh")[0]
    assert measure.kinds == ("base_station", "exchange")


def test_a_plan_without_shares_per_district_is_coloured_by_level():
    assert [m.source for m in legend.measures(situations.packs()[SPECIAL], "zh")] == ["level"]


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 0, None), (0, 9, 0), (1, 10**9, 1), (49, 99, 1), (50, 100, 2), (50, 99, 2), (9, 9, 2)],
)
def test_exactly_half_is_in_the_upper_bin_and_nothing_of_nothing_in_none(part, whole, expected):
    measure = legend.Measure("m", "facilities", "", "", (Fraction(1, 2),))
    assert measure.bin_of(part, whole) == expected


def test_each_bin_has_a_label_and_a_colour():
    for plan, pack in situations.packs("en").items():
        for measure in legend.measures(pack, "en"):
            made = measure.as_json(Style())
            assert len(made["bins"]) == len(made["colours"]) == len(made["dark"]), plan
            assert len(made["bins"]) == (len(measure.edges) + 2 if measure.source != "level" else 0)


def test_share_colours_darken_so_that_they_read_without_colour_vision():
    style = Style()
    darkness = [contrast(colour, "#ffffff") for colour in (style.nothing_down, *style.shares)]
    assert darkness == sorted(darkness)
    assert all(later / earlier > 1.25 for earlier, later in pairwise(darkness))


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_numeral_can_be_read_on_its_level_colour(level):
    colour = Style().levels[level]
    assert contrast(ink_on(colour), colour) >= 4.5


@pytest.mark.parametrize(
    "levels", [{1: "#000000"}, dict.fromkeys((1, 2, 3, 4), "red;}body{display:none")]
)
def test_an_incomplete_or_foreign_colour_table_is_refused(levels):
    with pytest.raises(ValueError, match="colour"):
        Style(levels=levels)


def test_configured_colours_reach_the_page():
    style = Style(levels={1: "#111111", 2: "#222222", 3: "#333333", 4: "#444444"})
    assert "--level-3:#333333" in style.css_variables()
    assert style.as_json()["levels"]["4"] == "#444444"


@pytest.mark.parametrize("table", [WORDS, KINDS, METRICS])
def test_both_languages_have_the_same_words_and_placeholders(table):
    assert table["zh"].keys() == table["en"].keys()
    for key, chinese in table["zh"].items():
        english = table["en"][key]
        assert english.strip(), key
        for name in ("{n}", "{value}", "{time}", "{level}", "{part}", "{whole}"):
            assert (name in chinese) == (name in english), (key, name)
