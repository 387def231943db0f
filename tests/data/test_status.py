"""Status events: taken once, applied by what was observed and not by when it came."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from data.database import app_engine, reading
from data.facilities import retire_facilities
from data.sources import sources_at
from data.status import MAX_EVENTS, _event_sha256, canonical_sha256, event_key, ingest_status
from geo.errors import InvalidInput
from tests.conftest import drop_database
from tests.data.stored import (
    assert_verified,
    at,
    bring,
    counted_now,
    event,
    every_state,
    inventory,
    log_of,
    send,
    stored_state,
)
from tests.feeds import INSIDE, YUZHONG, facility


@pytest.fixture
def engine(divided: Engine) -> Engine:
    bring(divided, *inventory(12))
    return divided


def ledgered(engine: Engine, event_id: str) -> bool:
    with reading(engine) as connection:
        found = connection.execute(
            text("SELECT 1 FROM status_ledger WHERE event_key = :k"), {"k": event_key(event_id)}
        )
        return found.first() is not None


def reasons(receipt: Any) -> dict[int, str]:
    return {fault.row: fault.reason for fault in receipt.rejected}


def test_the_same_event_again_is_a_duplicate_and_changes_nothing(engine: Engine) -> None:
    one = event("e1", "F0", "down", 1)
    first = send(engine, one)
    assert (first.accepted, first.duplicates, first.rejected) == (1, 0, [])
    before = counted_now(engine)
    again = send(engine, one, event("e2", "F1", "up", 1), one)
    assert (again.accepted, again.duplicates, again.rejected) == (1, 2, [])
    assert again.sequence > first.sequence
    third = send(engine, one)
    assert (third.accepted, third.duplicates) == (0, 1)
    assert third.sequence == again.sequence
    assert stored_state(engine, "F0") == ("down", "e1")
    assert len(log_of(engine, "e1")) == 1
    assert counted_now(engine).keys() == before.keys()
    assert_verified(engine)


def test_key_order_white_space_and_escapes_are_the_same_body(engine: Engine) -> None:
    one = event("é-1", "F0", "down", 1, cause="停电")
    send(engine, one)
    for body in (
        orjson.dumps(dict(reversed(one.items())), option=orjson.OPT_INDENT_2),
        b'[{"event_id":"\\u00e9-1", "facility_id":"F0","state":"down","observed_at":"'
        + one["observed_at"].encode()
        + b'", "cause":"\\u505c\\u7535" }]',
    ):
        parsed = orjson.loads(body)
        events = parsed if isinstance(parsed, list) else [parsed]
        receipt = ingest_status(engine, events, body=body, account="utility")
        assert (receipt.accepted, receipt.duplicates, receipt.rejected) == (0, 1, [])


@pytest.mark.parametrize(
    "other",
    [
        {"state": "up"},
        {"facility_id": "F1"},
        {"observed_at": at(2)},
        {"cause": "storm"},
        {"cause": None},
        {"note": 1},
    ],
)
def test_the_same_id_with_another_body_is_a_conflict_in_this_batch_and_later(
    engine: Engine, other: dict[str, Any]
) -> None:
    one = event("e1", "F0", "down", 1)
    within = send(engine, one, one | other, one)
    assert (within.accepted, within.duplicates) == (1, 1)
    assert list(reasons(within)) == [2]
    assert "conflict" in reasons(within)[2]
    later = send(engine, one | other, event("e2", "F2", "down", 1))
    assert (later.accepted, list(reasons(later))) == (1, [1])
    assert "conflict" in reasons(later)[1]
    assert stored_state(engine, "F0") == ("down", "e1")
    assert_verified(engine)


def test_a_conflict_and_its_true_repeat_in_one_batch_are_told_apart(engine: Engine) -> None:
    true = event("e1", "F0", "down", 1)
    send(engine, true)
    receipt = send(engine, true | {"state": "up"}, true, true | {"state": "up"})
    assert (receipt.accepted, receipt.duplicates) == (0, 1)
    assert sorted(reasons(receipt)) == [1, 3]


BAD: list[tuple[Any, str]] = [
    (None, "object"),
    ([], "object"),
    ("down", "object"),
    ({}, "event_id"),
    (event("", "F0", "up", 1), "event_id"),
    (event("x", "", "up", 1), "facility_id"),
    (event("x", "F0", "up", 1) | {"event_id": 7}, "event_id"),
    (event("x" * 129, "F0", "up", 1), "event_id"),
    (event("a\x00b", "F0", "up", 1), "event_id"),
    (event("x", "F\x000", "up", 1), "facility_id"),
    (event("x", "F0\n", "up", 1), "facility_id"),
    (event("x\ud800", "F0", "up", 1), "event_id"),
    (event("x", "F0", "off", 1), "state"),
    (event("x", "F0", "UP", 1), "state"),
    (event("x", "F0", "up", 1) | {"state": ["up"]}, "state"),
    (event("x", "F0", "up", "2026-07-01T08:30:00"), "offset"),
    (event("x", "F0", "up", "2026-07-01"), "offset"),
    (event("x", "F0", "up", "yesterday"), "offset"),
    (event("x", "F0", "up", "2026-02-30T00:00:00Z"), "real date"),
    (event("x", "F0", "up", "0001-01-01T00:00:00+08:00"), "real date"),
    (event("x", "F0", "up", "9999-12-31T23:59:59-08:00"), "real date"),
    (event("x", "F0", "up", 1) | {"observed_at": 1782890000}, "offset"),
    (event("x", "F0", "up", 1) | {"observed_at": None}, "offset"),
    (event("x", "F0", "up", 1, cause="\x00"), "cause"),
    (event("x", "F0", "up", 1, cause="y" * 201), "cause"),
    (event("x", "F0", "up", 1, cause=5), "cause"),
    (event("x", "F0", "up", 1, cause="\udc00"), "canonical"),
    (event("x", "F0", "up", 1, weight=2**53 + 1), "canonical"),
    (event("x", "F0", "up", 1, weight=float("nan")), "canonical"),
    (event("x", "F0", "up", 1, weight={"deep": [2**60]}), "canonical"),
]


def test_bad_rows_are_listed_with_row_and_reason_and_good_ones_taken(engine: Engine) -> None:
    good = [event(f"g{i}", f"F{i % 12}", "degraded", i) for i in range(len(BAD))]
    mixed = [one for pair in zip(good, (bad for bad, _ in BAD), strict=True) for one in pair]
    receipt = ingest_status(engine, mixed, body=b"mixed", account="utility")
    assert receipt.accepted == len(good)
    found = reasons(receipt)
    assert sorted(found) == [2 * i for i in range(1, len(BAD) + 1)]
    for i, (bad, word) in enumerate(BAD, 1):
        fields = {f.field for f in receipt.rejected if f.row == 2 * i}
        assert word in found[2 * i] or word in fields, (bad, found[2 * i])
    assert_verified(engine, deep=False)


def test_a_batch_of_bad_rows_alone_leaves_nothing(engine: Engine) -> None:
    receipt = send(engine, event("x", "F0", "off", 1))
    assert (receipt.accepted, len(receipt.rejected)) == (0, 1)
    assert receipt.sequence == 1
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM batch")).scalar() == 1


def test_one_event_too_many_refuses_the_request_and_the_limit_itself_is_taken(
    engine: Engine,
) -> None:
    base = event("", "F0", "up", 1)
    many = [base | {"event_id": f"m{i}"} for i in range(MAX_EVENTS + 1)]
    with pytest.raises(InvalidInput, match="100000"):
        ingest_status(engine, many, body=b"many", account="utility")
    assert not ledgered(engine, "m0")
    receipt = ingest_status(engine, many[:-1], body=b"many", account="utility")
    assert receipt.accepted == MAX_EVENTS


def test_an_observation_ahead_of_its_receipt_is_kept_and_never_applied(engine: Engine) -> None:
    before = stored_state(engine, "F0")
    ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    receipt = send(engine, event("future", "F0", "degraded", ahead))
    assert receipt.accepted == 1
    assert log_of(engine, "future")[0].future
    assert stored_state(engine, "F0") == before
    soon = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    send(engine, event("soon", "F1", "down", soon))
    assert stored_state(engine, "F1") == ("down", "soon")
    # nor by being imported later
    send(engine, event("ahead-of-import", "LATE", "down", ahead))
    bring(engine, facility("LATE", *INSIDE[YUZHONG]))
    assert stored_state(engine, "LATE") == ("up", "")
    assert_verified(engine)


def test_what_arrives_late_never_masks_what_was_observed_later(engine: Engine) -> None:
    send(engine, event("new", "F0", "up", 30))
    send(engine, event("late", "F0", "down", 10))
    assert stored_state(engine, "F0") == ("up", "new")
    send(engine, event("newer", "F0", "down", 30.001))
    assert stored_state(engine, "F0") == ("down", "newer")
    assert_verified(engine)


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_ties_go_to_the_graver_state_then_to_the_id_whatever_came_first(
    order: tuple[int, ...], database_with_one: Engine
) -> None:
    name = f"T{''.join(map(str, order))}"
    bring(database_with_one, facility(name, *INSIDE[YUZHONG]))
    tied = [
        event(f"{name}-a", name, "up", 5),
        event(f"{name}-b", name, "unknown", 5),
        event(f"{name}-c", name, "degraded", 5),
        event(f"{name}-Z", name, "down", 5),
        event(f"{name}-d", name, "down", 5),
    ]
    for i in order:
        send(database_with_one, tied[i])
    # "Z" < "d" by code point, however a language sorts them
    assert stored_state(database_with_one, name) == ("down", f"{name}-d")


@pytest.fixture(scope="module")
def database_with_one(make_database: Any, divided_template: str) -> Any:
    engine = app_engine(make_database(divided_template))
    yield engine
    assert_verified(engine)
    engine.dispose()


def test_an_event_for_an_unknown_facility_waits_and_applies_at_import(engine: Engine) -> None:
    receipt = send(engine, event("w1", "LATE", "down", 5), event("w2", "LATE", "degraded", 3))
    assert (receipt.accepted, receipt.rejected) == (2, [])
    send(engine, event("w3", "LATE", "up", 1))
    imported = bring(engine, facility("LATE", *INSIDE[YUZHONG], operator="tower"))
    assert imported.applied == 1
    assert stored_state(engine, "LATE") == ("down", "w1")
    assert send(engine, event("w1", "LATE", "down", 5)).duplicates == 1
    assert_verified(engine)


def test_what_waited_counts_only_from_an_account_that_speaks_for_the_operator(
    engine: Engine,
) -> None:
    send(engine, event("foreign", "LATE", "down", 9), operators=("mobile",))
    send(engine, event("own", "LATE", "degraded", 5), operators=("tower", "grid"))
    bring(engine, facility("LATE", *INSIDE[YUZHONG], operator="tower"))
    assert stored_state(engine, "LATE") == ("degraded", "own")
    assert_verified(engine)


def test_other_operators_facilities_are_rejected_and_the_id_stays_free(engine: Engine) -> None:
    one = event("e1", "F0", "down", 1)  # F0 belongs to tower
    own = event("e2", "F1", "down", 1)  # F1 to mobile
    refused = send(engine, one, own, one, one | {"state": "up"}, operators=("mobile",))
    assert (refused.accepted, refused.duplicates) == (1, 0)
    assert sorted(reasons(refused)) == [1, 3, 4]
    assert "another operator" in reasons(refused)[1]
    assert not ledgered(engine, "e1")
    assert log_of(engine, "e1") == []
    taken = send(engine, one, operators=("tower",))
    assert (taken.accepted, taken.rejected) == (1, [])
    assert stored_state(engine, "F0") == ("down", "e1")
    assert_verified(engine)


def test_an_empty_batch_is_a_heartbeat_of_the_accounts_operators(engine: Engine) -> None:
    receipt = send(engine, operators=("tower",))
    assert (receipt.accepted, receipt.sequence) == (0, 2)
    with reading(engine) as connection:
        heard = {s.operator for s in sources_at(connection, 2) if s.heard_at}
    assert heard == {"tower"}
    silent = send(engine, operators=("nobody",))
    assert silent.sequence == 2


def test_a_retired_facility_keeps_learning_without_being_counted(engine: Engine) -> None:
    retire_facilities(engine, ["F0"], account="planner", body=b"r", reason="test")
    before = counted_now(engine)
    send(engine, event("e1", "F0", "down", 1))
    assert counted_now(engine) == before
    bring(engine, inventory(12)[0])
    assert stored_state(engine, "F0") == ("down", "e1")
    assert_verified(engine)


def test_an_id_that_is_a_uuid_is_its_own_key_and_any_other_its_digest() -> None:
    canonical = "0190a5c2-7f3e-7c1a-9b1e-2f6f0c9d1a55"
    assert str(event_key(canonical)) == canonical
    spellings = [canonical.upper(), canonical.replace("-", ""), f"{{{canonical}}}", f" {canonical}"]
    keys = {event_key(s) for s in [canonical, *spellings]}
    assert len(keys) == 5


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.text(st.characters(codec="utf-8"), max_size=20),
        max_size=4,
    )
)
def test_the_quick_digest_is_that_of_the_canonical_form(body: dict[str, str]) -> None:
    assert _event_sha256(body) == canonical_sha256(body)


STATES = ("up", "degraded", "down", "unknown")
FACILITIES = 6
one_event = st.tuples(
    st.integers(0, FACILITIES), st.sampled_from(STATES), st.integers(0, 4), st.integers(0, 2)
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(log=st.lists(one_event, min_size=1, max_size=25), data=st.data())
def test_any_order_any_batches_and_retries_end_in_the_same_state_and_counters(
    cluster: Any, make_database: Any, divided_template: str, log: list[Any], data: st.DataObject
) -> None:
    """Facility number FACILITIES is imported last: its events wait."""
    events = [
        event(f"{tie}-{i}", f"F{f}", state, minute) for i, (f, state, minute, tie) in enumerate(log)
    ]
    shuffled = data.draw(st.permutations(events))
    again = data.draw(st.lists(st.sampled_from(events), max_size=6))
    sizes = data.draw(st.lists(st.integers(1, 7), min_size=len(events), max_size=len(events)))
    ends = []
    for sent, cuts in ((events, [len(events)]), ([*shuffled, *again], sizes)):
        url = make_database(divided_template)
        engine = app_engine(url, pool_size=1)
        rows = inventory(FACILITIES + 1)
        bring(engine, *rows[:-1])
        left, accepted = list(sent), 0
        for size in cuts:
            batch, left = left[:size], left[size:]
            if batch:
                accepted += send(engine, *batch).accepted
        if left:
            accepted += send(engine, *left).accepted
        assert accepted == len(events)
        bring(engine, rows[-1])
        assert_verified(engine)
        ends.append((every_state(engine), counted_now(engine)))
        engine.dispose()
        drop_database(cluster, url)
    assert ends[0] == ends[1]
