"""Rule packs on disk: the three plans load; a malformed one fails naming file and line."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest

from data.rulepacks import PLANS_FOLDER, key_lines, load_pack, load_packs
from geo.errors import NotFound, PlanError
from geo.grade import RulePack, assess

COMMS = "communications-2024"
POWER = "power-outage-2021"
SPECIAL = "special-equipment-2023"
PACKS = load_packs()
CITY = timezone(timedelta(hours=8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PLANS_FOLDER, tmp_path / "plans"))


def line_of(file: Path, text: str) -> int:
    """The 1-based line on which `text` first stands."""
    return next(n for n, line in enumerate(file.read_text("utf-8").splitlines(), 1) if text in line)


def test_the_three_plans_load() -> None:
    assert PACKS.plans() == [COMMS, POWER, SPECIAL]
    counts = {plan: len(PACKS.current(plan).criteria) for plan in PACKS.plans()}
    assert counts == {COMMS: 10, POWER: 14, SPECIAL: 28}


def test_texts_exist_in_both_languages_and_differ_between_criteria() -> None:
    for plan in PACKS.plans():
        criteria = PACKS.current(plan).criteria
        for lang in ("zh", "en"):
            texts = [criterion.text[lang] for criterion in criteria]
            assert all(texts)
            assert len(set(texts)) == len(texts)


def test_a_plan_is_in_force_from_its_first_day_in_the_city() -> None:
    first = datetime(2024, 11, 23, 0, 0, tzinfo=CITY)
    assert PACKS.at(COMMS, first).plan == COMMS
    with pytest.raises(NotFound, match="no version of communications-2024"):
        PACKS.at(COMMS, first - timedelta(microseconds=1))
    assert [pack.plan for pack in PACKS.in_force(datetime(2022, 1, 1, tzinfo=UTC))] == [POWER]
    with pytest.raises(NotFound, match="known are communications-2024"):
        PACKS.current("flood-2020")
    with pytest.raises(ValueError, match="offset"):
        PACKS.at(COMMS, datetime(2025, 1, 1))  # noqa: DTZ001


def test_a_pack_as_json_gives_every_criterion_with_its_clause() -> None:
    for plan in PACKS.plans():
        pack = PACKS.current(plan)
        zh, en = pack.as_json("zh"), pack.as_json("en")
        assert [c["clause"] for c in zh["criteria"]] == [c.clause for c in pack.criteria]
        assert zh["criteria"][0]["text"] != en["criteria"][0]["text"]
        assert zh["title"].startswith("重庆市")
        assert [step["label"] for step in zh["scale"]] == ["Ⅰ", "Ⅱ", "Ⅲ", "Ⅳ"]
    large = PACKS.current(POWER).as_json("en")["criteria"]
    third = next(c for c in large if c["metric"] == "district_load_shed_share")
    assert third["clause"] == "1.5.3(3)"
    assert third["threshold"] == 0.6
    assert third["requires"] == [{"metric": "load_mw", "at_least": 150}]


def test_an_unknown_language_falls_back_to_chinese() -> None:
    assert PACKS.current(COMMS).as_json("fr") == PACKS.current(COMMS).as_json("zh")


# Malformed packs -----------------------------------------------------------------------------------

MALFORMED = [
    (COMMS, 'clause = "1.6.4"', 'claws = "1.6.4"', "claws", "unknown key"),
    (COMMS, 'clause = "1.6.4"\nlevel', "level", "clause is missing", "clause is missing"),
    (COMMS, 'clause = "1.6.4"\nlevel = 4', 'clause = "1.6.4"\nlevel = 5', "level = 5", "1 to 4"),
    (COMMS, 'clause = "1.6.4"\nlevel = 4', 'clause = "1.6.4"\nlevel = "4"', 'level = "4"', "1 to 4"),
    (POWER, 'metric = "load_shed_share"', 'metric = "load_share"', '"load_share"', "unknown metric"),
    (POWER, "bound = 0.05", 'bound = "0.05"', 'bound = "0.05"', "must be a number, not text"),
    (POWER, "bound = 0.05", "bound = true", "bound = true", "finite number"),
    (POWER, "bound = 0.05", "bound = nan", "bound = nan", "finite number"),
    (POWER, "bound = 0.05", "bound = 5", "bound = 5", "at most 1"),
    (POWER, "bound = 0.05", "bound = 0", "bound = 0", "more than 0"),
    (POWER, "bound = 0.20", "bound = 0.08", "bound = 0.08", "must be above the bound of 1.5.3(1)"),
    (SPECIAL, "bound = true", "bound = false", "bound = false", "must be true"),
    (SPECIAL, "bound = 600", "bound = [600]", "bound = [600]", "finite number"),
    (COMMS, 'bound = ["IV"]', 'bound = ["V"]', 'bound = ["V"]', "V is no value"),
    (COMMS, 'bound = ["IV"]', "bound = 4", "bound = 4", "list of words"),
    (COMMS, 'scope = "districts"\nmetric', 'scope = "towns"\nmetric', '"towns"', "no group"),
    (COMMS, 'unit = "share"\ncount = 2', 'unit = "MW"\ncount = 2', 'unit = "MW"', "measured in share"),
    (POWER, 'colour = "red"', 'colour = "pink"', '"pink"', "not one of red"),
    (POWER, "effective_from = 2021-02-03", 'effective_from = "soon"', '"soon"', "a date"),
    (POWER, "many = true", "many = 1", "many = 1", "true or false"),
    (POWER, 'part_of = "load_mw"', 'part_of = "load_kw"', '"load_kw"', "'load_kw' is no"),
    (POWER, "format = 1", "format = 2", "format = 2", "from 1 to 1"),
    (SPECIAL, 'in = "leaking"', 'in = "leeking"', "requires = [", "no set of this pack"),
    (SPECIAL, 'text.en = "10 or more dead"\n', "", "text.zh", "en is missing"),
    (SPECIAL, "levels = [1, 2, 3]", "levels = [0]", "levels = [0]", "levels 1 to 4"),
    (SPECIAL, '[facts.deaths]\ntype = "integer"', '[facts.deaths]\ntype = "int"', '"int"', "not one"),
    (COMMS, '[groups.districts]\nmany = true\n', '[groups.districts]\nmany = ]\n', "many = ]", "value"),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "old", "new", "mark", "reason"), MALFORMED)
def test_a_malformed_pack_fails_naming_file_and_line(
    folder: Path, plan: str, old: str, new: str, mark: str, reason: str
) -> None:
    file = folder / f"{plan}.toml"
    before = file.read_text("utf-8")
    assert old in before
    at = before.index(old)
    file.write_text(before[:at] + new + before[at + len(old) :], "utf-8")
    with pytest.raises(PlanError) as refused:
        load_packs(folder)
    message = next(part for part in str(refused.value).split("; ") if reason in part)
    named, number, _ = message.split(":", 2)
    assert named == f"{plan}.toml"
    changed = (before[:at] + new).count("\n") + 1
    lines = file.read_text("utf-8").splitlines()
    if mark in ("clause is missing", "requires = [", "text.zh"):
        # The nearest table: the header, or the key that holds it, at or a few lines above.
        assert changed - 6 <= int(number) <= changed
        assert "=" in lines[int(number) - 1] or "[[" in lines[int(number) - 1]
    else:
        assert mark in lines[int(number) - 1]


def test_a_duplicate_criterion_is_named_at_the_second(folder: Path) -> None:
    file = folder / f"{COMMS}.toml"
    text = file.read_text("utf-8")
    last = text[text.rindex("[[criteria]]") :]
    file.write_text(text + "\n" + last, "utf-8")
    with pytest.raises(PlanError, match=r"1\.6\.4 has a criterion on facilities_down already") as e:
        load_packs(folder)
    number = int(str(e.value).split(":")[1])
    assert number == text.count("\n") + 3


def test_every_fault_of_a_pack_is_named_at_once(folder: Path) -> None:
    file = folder / f"{POWER}.toml"
    text = file.read_text("utf-8").replace("bound = 0.05", "bound = 0")
    file.write_text(text.replace('colour = "red"', 'colour = "pink"'), "utf-8")
    with pytest.raises(PlanError) as refused:
        load_packs(folder)
    assert "pink" in str(refused.value)
    assert "more than 0" in str(refused.value)


def test_overlapping_versions_of_a_plan_are_refused_and_adjoining_ones_are_not(
    folder: Path,
) -> None:
    old = folder / f"{POWER}.toml"
    text = old.read_text("utf-8")
    new = folder / "power-outage-2021-second.toml"
    later = text.replace("2021-02-03", "2026-01-01")
    new.write_text(later.replace("bound = 0.05", "bound = 0.04"), "utf-8")
    with pytest.raises(
        PlanError, match=r"overlaps its version at power-outage-2021\.toml"
    ) as refused:
        load_packs(folder)
    line = line_of(new, "effective_from")
    assert str(refused.value).startswith(f"{new.name}:{line}:")

    dated = "effective_from = 2021-02-03\neffective_to = 2026-01-01"
    old.write_text(text.replace("effective_from = 2021-02-03", dated), "utf-8")
    packs = load_packs(folder)
    facts = {"city": {"load_mw": 100, "load_shed_mw": 4}}
    levels = [
        assess(packs.at(POWER, when), facts)["level"]
        for when in (
            datetime(2025, 12, 31, 23, 59, tzinfo=CITY),
            datetime(2026, 1, 1, tzinfo=CITY),
        )
    ]
    assert levels == [None, 4]
    assert [p.version for p in packs.versions(POWER)] == ["2021-02-03", "2026-01-01"]


def test_an_end_before_the_beginning_is_refused(folder: Path) -> None:
    file = folder / f"{POWER}.toml"
    text = file.read_text("utf-8")
    dated = "effective_from = 2021-02-03\neffective_to = 2021-02-03"
    file.write_text(text.replace("effective_from = 2021-02-03", dated), "utf-8")
    with pytest.raises(PlanError, match="must be after effective_from"):
        load_packs(folder)


def test_an_empty_folder_and_a_file_of_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no rule pack"):
        load_packs(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"format = 1\nplan = '\xff'\n")
    with pytest.raises(PlanError, match=r"x\.toml:2: is not UTF-8"):
        load_packs(tmp_path)
    (tmp_path / "x.toml").write_text("", "utf-8")
    with pytest.raises(PlanError, match=r"x\.toml:1: plan is missing"):
        load_packs(tmp_path)


def test_a_pack_can_be_made_from_a_dictionary_with_floats() -> None:
    data = tomllib.loads((PLANS_FOLDER / f"{POWER}.toml").read_text("utf-8"))
    pack = RulePack.from_dict(data, "memory")
    loaded = load_pack(PLANS_FOLDER / f"{POWER}.toml")
    assert pack.criteria == loaded.criteria
    assert pack.effective_from == date(2021, 2, 3)
    del data["criteria"][0]["clause"]
    with pytest.raises(PlanError, match=r"^memory: criteria\[1\]: clause is missing"):
        RulePack.from_dict(data, "memory")


def test_a_fifth_plan_needs_no_code(tmp_path: Path) -> None:
    """Another city's rule, counted over three districts, from data alone."""
    text = (PLANS_FOLDER / f"{COMMS}.toml").read_text("utf-8")
    text = text.replace(COMMS, "elsewhere-2030").replace("count = 2", "count = 3")
    (tmp_path / "elsewhere.toml").write_text(text.replace("2024-11-23", "2020-01-01"), "utf-8")
    pack = load_packs(tmp_path).current("elsewhere-2030")
    rows = [{"adcode": str(n), "facilities_total": 2, "facilities_down": 1} for n in range(3)]
    assert assess(pack, {"districts": rows[:2]})["level"] == 3
    assert assess(pack, {"districts": rows})["level"] == 2


STRANGE = [None, True, 0, -1, 3, 1.5, float("nan"), "", "x", "(", [], [1], ["x"], {}, {"x": 1}]


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a pack."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from nodes(child, (*path, key))


@pytest.mark.parametrize("plan", [COMMS, POWER, SPECIAL])
def test_whatever_value_is_broken_only_a_plan_error_comes_out(plan: str) -> None:
    """One value at a time is removed or made strange: the pack loads and grades, or PlanError."""
    text = (PLANS_FOLDER / f"{plan}.toml").read_text("utf-8")
    strange = Random(plan)
    refused = 0
    for path in strange.sample(list(nodes(tomllib.loads(text))), 120):
        data = tomllib.loads(text)
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        value = strange.choice(STRANGE)
        if value is None:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
        try:
            pack = RulePack.from_dict(data, "memory")
        except PlanError:
            refused += 1
            continue
        assert pack.as_json("en")["criteria"]
        assess(pack, {})
    assert refused > 30


def test_lines_are_found_past_strings_comments_and_nested_arrays() -> None:
    text = '''# [[a]]
title = """
[[a]]
key = 1
"""
[[a]]  # first
x = "[[a]] # no"
list = [
  { y = 1 },
  ["]"],
]
z.w = 2
[[a]]
x = '#'
[a.b]
"q r" = 1
[[a.c]]
d = 1
'''
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines["title",] == 2
    assert lines["a", 0] == lines["a",] == 6
    assert lines["a", 0, "list"] == 8
    assert lines["a", 0, "z", "w"] == 12
    assert lines["a", 1] == 13
    assert lines["a", 1, "x"] == 14
    assert lines["a", 1, "b", "q r"] == 16
    assert lines["a", 1, "c", 0, "d"] == 18
    assert ("key",) not in lines
