"""Power losses over time: what adds up is what was lost at one moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.rulepacks import load_packs
from geo.grade import assess
from geo.power import Ints, Loss, Supply, Timeline, down_intervals, minus, timeline, worst_moment
from geo.power_event import PowerEvent, PowerView

POWER = load_packs().current("power-outage-2021")
A, B, C = "500101", "500102", "500103"
CODES = (A, B, C)
START = datetime(2026, 7, 1, tzinfo=UTC)
NOW = START + timedelta(hours=24)
#: Each district 100 MW and 1 000 customers of the main grid, and 20 MW of another supplier.
SUPPLY: dict[tuple[str | None, bool], Supply] = {
    **{(code, True): Supply(load_kw=100_000, customers=1_000) for code in CODES},
    **{(code, False): Supply(load_kw=20_000, customers=200) for code in CODES},
}


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def loss(
    adcode: str | None,
    mw: float,
    since: float,
    until: float | None = None,
    *,
    customers: int = 0,
    main: bool = True,
) -> Loss:
    end = None if until is None else at(until)
    return Loss(adcode, main, int(mw * 1000), customers, at(since), end)


def event(losses: Sequence[Loss], **more: Any) -> PowerEvent:
    return PowerEvent(CODES, SUPPLY, losses, **({"now": NOW} | more))


def view(losses: Sequence[Loss]) -> PowerView:
    return event(losses).view


def every_moment(line: Timeline) -> Ints:
    return line.during(0, len(line.instants))


def worst(losses: Sequence[Loss], since: float | None = None) -> Any:
    power = event(losses)

    def graded(lost: Ints) -> dict[str, Any]:
        return assess(POWER, power.view.facts(lost), now=NOW)

    return worst_moment(power.line, None if since is None else at(since), graded)


def city_mw(moment: Any) -> float:
    return float(moment.assessment["facts"]["city"]["load_shed_mw"])


# --- simultaneous, not summed over time -------------------------------------------------------


def test_losses_that_never_overlap_do_not_add() -> None:
    moment = worst([loss(A, 30, 1, 2), loss(B, 30, 3, 4), loss(C, 30, 5, 6)])
    assert city_mw(moment) == 30
    assert moment.assessment["level"] == 3  # 10 % of 300 MW; 30 % would be Ⅰ
    assert (moment.opened_at, moment.at) == (at(1), at(1))


def test_losses_that_overlap_add_while_they_do() -> None:
    moment = worst([loss(A, 20, 1, 4), loss(B, 20, 2, 6), loss(C, 20, 3, 5)])
    assert city_mw(moment) == 60
    assert moment.assessment["level"] == 2
    assert moment.at == at(3)


def test_the_end_of_one_loss_and_the_beginning_of_another_at_one_instant_do_not_overlap() -> None:
    moment = worst([loss(A, 30, 1, 2), loss(A, 30, 2, 3), loss(B, 29, 2, 2)])
    assert city_mw(moment) == 30


def test_the_order_of_arrival_does_not_matter() -> None:
    losses = [loss(c, mw, s, e) for c, mw, s, e in
              [(A, 20, 5, 7), (B, 50, 1, 3), (C, 20, 2, 6), (A, 10, 2.5, None), (None, 7, 0.5, 9)]]  # fmt: skip
    first = worst(losses)
    for seed in range(6):
        shuffled = losses.copy()
        random.Random(seed).shuffle(shuffled)
        assert worst(shuffled) == first


def test_what_begins_later_than_now_is_not_yet() -> None:
    line = timeline([loss(A, 5, 1), loss(B, 5, 30)], CODES, until=NOW)
    assert line.instants == (at(1),)
    assert line.at_end()[:, 0].tolist() == [5_000, 0, 0, 0]


def test_what_ends_later_than_now_is_still_lost() -> None:
    assert view([loss(A, 5, 1, 30)]).lost[0, 0] == 5_000
    assert view([loss(A, 5, 1, 24)]).lost[0, 0] == 0


def test_a_loss_outside_the_city_belongs_to_the_main_grid_and_to_no_district() -> None:
    power = event([loss(None, 40, 1), loss("510100", 2, 1)])
    assert power.view.lost[-1].tolist() == [42_000, 0, 42_000, 0]
    assert all(power.view.supply_of(i).load_shed_kw == 0 for i in range(3))


def test_city_figures_take_the_main_grid_and_district_figures_every_supplier() -> None:
    power = view([loss(A, 12, 1, main=False, customers=30), loss(A, 6, 1, customers=7)])
    city, district = power.city(power.lost), power.supply_of(0)
    assert (city.load_shed_kw, city.load_kw, city.customers_out) == (6_000, 300_000, 7)
    assert (district.load_shed_kw, district.load_kw, district.customers_out) == (18_000, 120_000, 37)  # fmt: skip


def test_more_reported_lost_than_there_is_counts_as_all_of_it() -> None:
    power = view([loss(A, 500, 1, customers=9_999)])
    assert power.supply_of(0).load_shed_kw == 120_000
    assert power.city(power.lost).load_shed_kw == 100_000
    facts = power.facts(power.lost)
    assert facts["city"]["customers_out"] == 1_000
    assess(POWER, facts, now=NOW)  # possible facts


# --- the event --------------------------------------------------------------------------------


def test_nothing_lost_is_no_event() -> None:
    assert worst([]) is None
    assert worst([loss(A, 0, 1, 2)]) is None
    assert worst([loss(A, 5, 3, 3)]) is None


def test_a_restored_event_keeps_its_worst_moment_until_it_is_closed() -> None:
    losses = [loss(A, 30, 1, 2)]
    assert worst(losses).assessment["level"] == 3
    assert view(losses).lost.sum() == 0
    assert worst(losses, since=2) is None


def test_an_event_after_a_confirmed_close_knows_nothing_of_the_one_before() -> None:
    losses = [loss(A, 90, 1, 2), loss(B, 16, 5, 6)]
    moment = worst(losses, since=3)
    assert (moment.opened_at, moment.at, city_mw(moment)) == (at(5), at(5), 16)
    assert moment.assessment["level"] == 4


def test_a_loss_that_persists_at_the_close_opens_a_new_event_at_the_close() -> None:
    losses = [loss(A, 90, 1, 2), loss(B, 16, 1.5, 6)]
    moment = worst(losses, since=3)
    assert (moment.opened_at, moment.at, city_mw(moment)) == (at(3), at(3), 16)


def test_a_close_at_the_very_instant_of_the_last_restoration_leaves_nothing() -> None:
    assert worst([loss(A, 90, 1, 3)], since=3) is None


def test_a_close_at_the_instant_of_a_new_loss_gives_that_loss_to_the_new_event() -> None:
    moment = worst([loss(A, 30, 1, 2), loss(B, 20, 3)], since=3)
    assert (moment.opened_at, city_mw(moment)) == (at(3), 20)


def test_a_close_before_any_loss_changes_nothing() -> None:
    losses = [loss(A, 30, 5, 6)]
    assert worst(losses, since=1) == worst(losses)


# --- ties -------------------------------------------------------------------------------------


def test_of_equally_grave_moments_the_greater_city_loss_counts() -> None:
    # Alone A (18 MW) and B (17 MW) peak at other instants than both together (34 MW): all are Ⅲ or Ⅳ
    losses = [loss(A, 18, 1, 2), loss(A, 17, 2, 3), loss(B, 17, 2, 3), loss(B, 18, 3, 4)]
    moment = worst(losses)
    assert (moment.at, city_mw(moment)) == (at(2), 34)


def test_of_equal_moments_the_earliest_counts() -> None:
    moment = worst([loss(A, 20, 1, 2), loss(A, 20, 3, 4), loss(A, 20, 5, 6)])
    assert moment.at == at(1)


def test_the_gravest_moment_is_not_that_of_the_greatest_loss() -> None:
    # 29 MW of the city is Ⅳ; 45 MW of a district under 150 MW fed otherwise is Ⅳ by 1.5.4(4) only.
    losses = [
        loss(A, 29, 1, 2),
        loss(B, 14, 3, 4, customers=200),  # 4.67 % of load, 6.7 % of customers
        loss(C, 14, 3, 4, customers=300),  # with B 16.7 % of customers: Ⅲ
    ]
    moment = worst(losses)
    assert (moment.assessment["level"], moment.at, city_mw(moment)) == (3, at(3), 28)


# --- down intervals of a substation -----------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "at_import", "expected"),
    [
        ([], "up", []),
        ([], "down", [(0, None)]),
        ([(1, "down", "a")], "up", [(1, None)]),
        ([(1, "down", "a"), (2, "up", "b")], "up", [(1, 2)]),
        ([(2, "up", "b"), (1, "down", "a")], "up", [(1, 2)]),
        ([(1, "down", "a"), (2, "down", "b"), (3, "up", "c")], "up", [(1, 3)]),
        ([(1, "down", "a"), (2, "degraded", "b"), (3, "down", "c")], "up", [(1, 2), (3, None)]),
        ([(1, "up", "z"), (1, "down", "a")], "up", [(1, None)]),
        ([(1, "down", "a"), (1, "degraded", "z"), (1, "unknown", "y")], "up", [(1, None)]),
        ([(1, "up", "a"), (2, "down", "b")], "down", [(0, 1), (2, None)]),
        ([(1, "down", "a"), (2, "unknown", "b")], "up", [(1, 2)]),
    ],
)
def test_a_substation_is_down_between_its_observations(
    observations: list[tuple[float, str, str]], at_import: str, expected: list[Any]
) -> None:
    given_ = [(at(hours), state, event) for hours, state, event in observations]
    found = down_intervals(given_, at_import, START)
    assert found == [(at(s), None if e is None else at(e)) for s, e in expected]
    assert down_intervals(given_[::-1], at_import, START) == found


@pytest.mark.parametrize(
    ("covers", "left"),
    [
        ([], [(2, 8)]),
        ([(0, 1)], [(2, 8)]),
        ([(0, 2)], [(2, 8)]),
        ([(8, 9)], [(2, 8)]),
        ([(2, 8)], []),
        ([(0, None)], []),
        ([(3, 4)], [(2, 3), (4, 8)]),
        ([(3, None)], [(2, 3)]),
        ([(1, 3), (5, 6), (7, 20)], [(3, 5), (6, 7)]),
        ([(3, 6), (4, 5)], [(2, 3), (6, 8)]),
    ],
)
def test_a_substation_in_a_reported_outage_counts_only_outside_its_hours(
    covers: list[tuple[float, float | None]], left: list[tuple[float, float]]
) -> None:
    hours = [(at(s), None if e is None else at(e)) for s, e in covers]
    assert sorted(minus((at(2), at(8)), hours)) == [(at(s), at(e)) for s, e in left]


def test_a_cover_that_ends_leaves_what_is_still_down() -> None:
    assert minus((at(2), None), [(at(1), at(5))]) == [(at(5), None)]
    assert minus((at(2), None), [(at(4), at(5))]) == [(at(2), at(4)), (at(5), None)]


# --- properties -------------------------------------------------------------------------------

LOSS = st.builds(
    loss,
    st.sampled_from([*CODES, None]),
    st.sampled_from([0, 5, 14, 15, 30, 48, 60, 90, 100, 250]),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(0, 14)),
    customers=st.sampled_from([0, 50, 100, 500, 1_000]),
    main=st.booleans(),
)
LOSSES = st.lists(LOSS, max_size=10)


def rank(moment: Any) -> int:
    return 9 if moment is None or moment.assessment["level"] is None else moment.assessment["level"]


@settings(max_examples=80, deadline=None)
@given(LOSSES, st.one_of(st.none(), st.integers(0, 13)), st.randoms(use_true_random=False))
def test_the_worst_moment_is_the_worst_of_all_and_never_graver_than_all_maxima_together(
    losses: list[Loss], since: int | None, source: random.Random
) -> None:
    found = worst(losses, since)
    shuffled = losses.copy()
    source.shuffle(shuffled)
    assert worst(shuffled, since) == found

    power = view(losses)
    line = event(losses).line
    instants, lost = list(line.instants), every_moment(line)
    after = at(since) if since is not None else (instants[0] if instants else NOW)
    inside = [
        i
        for i, instant in enumerate(instants)
        if instant >= after or i + 1 == len(instants) or instants[i + 1] > after
    ]
    inside = [i for i in inside if lost[i].any()]
    if not inside:
        assert found is None
        return
    every = {i: assess(POWER, power.facts(lost[i]), now=NOW) for i in inside}
    main = {i: int(lost[i, :, 2].sum()) for i in inside}
    best = min(inside, key=lambda i: (every[i]["level"] or 9, -main[i], i))
    assert found.assessment == every[best]
    assert found.at == max(instants[best], after)
    assert found.opened_at == max(instants[inside[0]], after)
    together = assess(POWER, power.facts(lost[inside].max(axis=0)), now=NOW)
    assert rank(found) >= (together["level"] or 9)


@settings(max_examples=60, deadline=None)
@given(LOSSES, LOSS)
def test_more_damage_is_never_lighter(losses: list[Loss], more: Loss) -> None:
    assert rank(worst([*losses, more])) <= rank(worst(losses))


@settings(max_examples=60, deadline=None)
@given(LOSSES)
def test_the_step_function_is_the_sum_of_what_holds_at_each_instant(losses: list[Loss]) -> None:
    line = timeline(losses, CODES, until=NOW)
    for i, instant in enumerate(line.instants):
        expected = np.zeros((4, 4), np.int64)
        for one in losses:
            if one.since <= instant and (one.until is None or one.until > instant):
                row = expected[CODES.index(one.adcode) if one.adcode else 3]
                main = int(one.main_grid)
                row += (one.load_kw, one.customers, one.load_kw * main, one.customers * main)
        assert (line.during(i, i + 1)[0] == expected).all()


def test_thousands_of_moments_are_graded_by_their_spans_and_not_one_by_one() -> None:
    source = random.Random(5)
    losses = []
    for _ in range(3_000):
        since = source.uniform(0, 20)
        losses.append(loss(source.choice(CODES), 0.2, since, since + source.uniform(0.1, 2)))
    power, line = view(losses), event(losses).line
    graded: list[Ints] = []

    def count(lost: Ints) -> dict[str, Any]:
        graded.append(lost)
        return assess(POWER, power.facts(lost), now=NOW)

    found = worst_moment(line, None, count)
    assert found is not None
    levels = {
        assess(POWER, power.facts(m), now=NOW)["level"] or 9 for m in every_moment(line)[::97]
    }
    assert (found.assessment["level"] or 9) <= min(levels)
    assert len(graded) < 400
