"""The lines at the end of a run: summed over tests and processes, a failed test a violation."""

from __future__ import annotations

from types import SimpleNamespace

from tests.summary import lines


def report(*told: tuple[str, object], failed: bool = False, when: str = "call") -> SimpleNamespace:
    return SimpleNamespace(when=when, failed=failed, user_properties=list(told))


def test_nothing_is_said_of_what_did_not_run() -> None:
    assert lines([report(), report(("other", 3)), SimpleNamespace()]) == []


def test_cells_are_summed_and_a_failed_one_is_a_violation() -> None:
    cell = ("matrix", {"cells tested": 1})
    ran = [report(cell) for _ in range(1_200)] + [report(cell, failed=True)]
    ran += [report(cell, when="teardown")]
    assert lines(ran) == ["matrix: 1,201 cells tested, 1 violations"]


def test_a_test_that_counts_its_violations_is_not_counted_again() -> None:
    told = {"edits of one version at once": 100, "taken": 3, "refused (412)": 97, "violations": 2}
    assert lines([report(("race", told), failed=True)]) == [
        "race: 100 edits of one version at once, 3 taken, 97 refused (412), 2 violations"
    ]


def test_one_that_fails_without_having_counted_any_is_one() -> None:
    told = {"kills": 7, "acknowledged": 75_000, "lost": 0}
    assert lines([report(("short crash run", told), failed=True)]) == [
        "short crash run: 7 kills, 75,000 acknowledged, 0 lost, 1 violations"
    ]
