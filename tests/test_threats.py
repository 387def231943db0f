"""The table of what must not happen names tests, files and rows that are there, and every row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.summary import LINES
from tests.torture.__main__ import rows

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
#: what must not happen, what prevents it, tests, rows of the long form
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| **")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
FILE = re.compile(r"`((?:api|data|geo|maps|tests)/[\w./]+)`")
ROW = re.compile(r"`([a-z-]+)`")


def test_each_line_says_what_prevents_it_and_names_a_test_and_a_row() -> None:
    assert len(TABLE) >= 23
    for line in TABLE:
        assert len(line) == 4, line
        _, mechanism, tests, long_form = line
        assert re.search(r"`[\w./ ]+`", mechanism), line
        assert TEST.search(tests), line
        assert ROW.search(long_form), line


@pytest.mark.parametrize(("path", "test"), sorted(set(TEST.findall(PAGE))))
def test_every_test_that_is_named_is_in_its_file(path: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(FILE.findall(PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_the_rows_of_the_long_form_are_all_named_and_no_other() -> None:
    named = [name for line in TABLE for name in ROW.findall(line[3])]
    assert sorted(named) == sorted(rows())


def test_the_lines_a_run_ends_with_are_explained() -> None:
    for name in LINES:
        assert f"`{name}`" in PAGE
