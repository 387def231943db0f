"""The checklist of OWASP ASVS 5.0: every requirement up to level 2 once, and evidence that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "asvs.md").read_text(encoding="utf-8")
#: Sections of the standard → how many requirements of levels 1 and 2 they begin with. None is
#: followed by one of a lower level again.
SECTIONS = {
    **{"1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1},
    **{"3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4},
    **{"5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3, "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5},
    **{"6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2, "8.1": 2},
    **{"8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4},
    **{"10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4},
    **{"11.5": 1, "11.6": 1, "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2},
    **{"13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3, "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1},
    **{"16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4, "17.3": 2},
}
ROW = re.compile(
    r"^\| (\d+\.\d+)\.(\d+)(?:–\1\.(\d+))? \| ([^|]+) \| (yes|no|n/a) \| ?([^|]*) ?\|$"
)
TEST = re.compile(r"`(test_\w+)` in `([^`]+)`")
NAMED = re.compile(r"`([\w./-]+/[\w./-]+|[A-Z]+\.md|pyproject\.toml|uv\.lock)`")
#: Paths of the service, not of the checkout, and what is made when it runs.
NOT_FILES = re.compile(r"^/|^var/")


def rows() -> list[tuple[str, list[int], str, str]]:
    """Section, numbers in it, answer, evidence."""
    found = []
    for line in PAGE.splitlines():
        if re.match(r"\| \d", line):
            row = ROW.match(line)
            assert row, line
            section, first, last, _, answer, evidence = row.groups()
            numbers = list(range(int(first), int(last or first) + 1))
            found.append((section, numbers, answer, evidence.strip()))
    return found


def test_every_requirement_up_to_level_2_is_answered_once_and_in_order() -> None:
    answered = [f"{section}.{n}" for section, numbers, _, _ in rows() for n in numbers]
    asked = [f"{section}.{n}" for section, most in SECTIONS.items() for n in range(1, most + 1)]
    assert answered == asked
    assert len(asked) == 253  # as the standard counts them


def test_a_yes_has_evidence_and_an_n_a_a_reason() -> None:
    for section, numbers, answer, evidence in rows():
        assert answer == "no" or evidence, (section, numbers)
        if answer == "n/a":
            continue
        assert len(numbers) == 1, "only what does not apply is answered together"


@pytest.mark.parametrize("path", sorted(set(NAMED.findall(PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert NOT_FILES.match(path) or (ROOT / path).exists()


@pytest.mark.parametrize(("test", "path"), sorted(set(TEST.findall(PAGE))))
def test_every_test_that_is_named_is_in_its_file(test: str, path: str) -> None:
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


def test_no_test_is_named_without_its_file() -> None:
    assert len(re.findall(r"`test_\w+`", PAGE)) == len(TEST.findall(PAGE))
