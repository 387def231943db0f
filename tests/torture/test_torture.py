"""The long form in short: its rows are there, its lines are readable, and it sees what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.torture.__main__ import rows
from tests.torture.figures import Figures
from tests.torture.fuzz import mutated
from tests.torture.ledger import Ledger, stored
from tests.torture.neighbours import Neighbours
from tests.torture.site import Site
from tests.torture.torture import ROWS, Torture

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "THREATS.md"
#: Rows that cost a second or two on a site that is there; of the others, ordinary tests are the short form.
SHORT = ("bad-json", "datum", "edit-race", "duplicates")


def answered(status: int, kind: str = "application/problem+json", **more: object) -> httpx.Response:
    request = httpx.Request("GET", "http://x/y")
    content = json.dumps({"status": status, **more}).encode()
    return httpx.Response(status, headers={"content-type": kind}, content=content, request=request)


@pytest.mark.parametrize(
    "wrong",
    [
        answered(500),
        answered(422, "text/html"),
        answered(404, "application/json"),
        answered(422, detail='Traceback (most recent call last): File "x"'),
        answered(503),  # without Retry-After
    ],
)
def test_a_wrong_answer_is_a_violation(wrong: httpx.Response) -> None:
    figures = Figures("x")
    figures.note(wrong, "")
    assert figures.violations
    assert not figures.ok
    assert figures.line().endswith("FAILED")


def test_ordinary_answers_and_problems_are_none() -> None:
    figures = Figures("x")
    for answer in (answered(200, "application/json"), answered(404), answered(429)):
        figures.note(answer, "")
    assert figures.ok
    assert figures.line().startswith("torture x: inputs 3, 500s 0, lost 0, violations 0, worker")


def test_a_slow_health_fails_the_row_unless_neighbours_explain_it() -> None:
    figures = Figures("x")
    figures.health_s = [0.01] * 50 + [0.6] * 50
    assert not figures.ok
    figures.factor = 3.0
    assert figures.ok
    figures.deaths = 1
    assert not figures.ok


def test_neighbours_multiply_by_what_they_take() -> None:
    neighbours = Neighbours([])
    neighbours.seen = [100, 0, 0]
    assert neighbours.factor(since=1) == 1.0
    assert neighbours.factor() > 2


def test_every_threat_has_a_row() -> None:
    known = rows()
    assert len(known) == len(ROWS) >= 29
    if not SHARED.exists():
        pytest.skip("the list of threats is not beside this checkout")
    threats = [line for line in SHARED.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    assert len(known) >= len(threats) - 1  # without the head


def test_the_same_seed_mutates_the_same_way() -> None:
    seed = b'{"a": [1, 2, 3], "b": "text"}'
    first, again, other = (
        [mutated(seed, np.random.default_rng(n)) for _ in range(1)] for n in (1, 1, 2)
    )
    assert first == again != other


@pytest.fixture(scope="module")
def torture() -> Iterator[Torture]:
    with Torture(seed=1, scale=0.02) as short:
        short.keep(Site())
        yield short


@pytest.mark.parametrize("name", SHORT)
def test_a_row_holds_in_short(torture: Torture, name: str) -> None:
    rows()
    figures = torture.try_row(name)
    assert figures.ok, (figures.line(), figures.told)
    assert figures.inputs > 20
    assert figures.health_s


def test_what_was_acknowledged_and_taken_away_is_seen_as_lost(torture: Torture) -> None:
    site = torture.site()
    with Ledger(site, seed=1, writers=6) as ledger:
        ledger.grows()
        ledger.grows()
    found, twice = stored(site)
    assert ledger.acknowledged
    assert ledger.acknowledged <= found
    assert twice == 0
    one = next(iter(w.acknowledged[0] for w in ledger.writers[4:] if w.acknowledged))
    site.sql("DELETE FROM status_log WHERE event_id = :id", id=one)
    assert ledger.acknowledged - stored(site)[0] == {one}
