"""Error texts in the reader's language: complete, unambiguous, quick, and the same in every answer."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Engine

from api.messages import (
    CATALOGUE,
    Catalogue,
    catalogue,
    read_catalogue,
    rejected_rows,
    summary,
    told,
)
from api.problems import answer_error
from data.readers.tabular import read_table
from data.rulepacks import load_packs
from geo.errors import Fault, InvalidInput
from geo.position import read_position
from tests.api.conftest import assert_problem
from tests.feeds import INSIDE, NANAN, YUZHONG
from tests.source_messages import CHINESE, messages, untold

Key = Callable[[str], dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"\{\d(?:!t)?\}")


# --- the catalogue --------------------------------------------------------------------------------


def test_every_error_text_of_the_source_has_a_chinese_one() -> None:
    left = [f"{one.where}: {one.text}" for one in untold()]
    assert not left, "add to api/locale/zh.po (python -m tests.source_messages prints them)"


def test_the_walk_over_the_source_finds_texts_however_they_are_handed_on() -> None:
    found = {one.text for one in messages()}
    assert len(found) > 300
    assert {
        "is missing",  # Fields.fault(name, "…")
        "must be at most {0}",  # an f-string, and one branch of a condition
        "give adcode or unit, not both",  # "…" + (… if … else …)
        "its border crosses itself at [{0}]; give the corners in order around the area,"
        " so that no side crosses another",  # returned by a function
        "is an empty Point; give a position",  # through a name
        "must be a time with offset, such as 2026-07-01T08:30:00+08:00",  # a ValueError
        "the role {0} may not do this",
        "must hold no control characters",  # through a parameter
    } <= found


def test_an_entry_loses_nothing_that_its_text_holds() -> None:
    entries = read_catalogue(CATALOGUE.read_text(encoding="utf-8"))
    assert len(entries) > 400
    foreign = ("Input should be", "Invalid")  # the English of a library stands in their places
    for english, chinese in entries.items():
        held = {place[1] for place in PLACE.findall(english)}
        told_of = {place[1] for place in PLACE.findall(chinese)}
        assert told_of == held or (english.startswith(foreign) and told_of <= held), english
        assert CHINESE.search(chinese) or chinese == "{0!t}", english


def test_no_entry_stands_in_the_way_of_another() -> None:
    """Each English text, with something in its places, is told by its own Chinese one."""
    entries = read_catalogue(CATALOGUE.read_text(encoding="utf-8"))
    told_by = catalogue()
    for english, chinese in entries.items():
        filled = PLACE.sub(lambda m: f"<{m[0][1]}>", english)
        expected = PLACE.sub(lambda m: f"<{m[0][1]}>", chinese)
        assert told_by.chinese(filled) == expected


def test_the_entry_with_most_letters_of_its_own_is_taken() -> None:
    known = Catalogue({"is {0}": "为 {0}", "is more than {0}": "大于 {0}", "is more": "更多"})
    assert known.chinese("is more than 3") == "大于 3"
    assert known.chinese("is more") == "更多"
    assert known.chinese("is less") == "为 less"


def test_a_part_marked_as_text_is_told_too_and_other_parts_are_left() -> None:
    known = Catalogue({"must be {0}, not {1}": "应为{0!t}，不是 {1}", "a number": "数"})
    assert known.chinese("must be a number, not a number") == "应为数，不是 a number"


def test_a_text_twice_in_the_catalogue_is_refused() -> None:
    entry = 'msgid "a"\nmsgstr "甲"\n'
    with pytest.raises(ValueError, match="stands twice"):
        read_catalogue(f"{entry}\n{entry}")
    assert read_catalogue('#, fuzzy\nmsgid "a"\nmsgstr "甲"\n\nmsgid "b"\nmsgstr ""\n') == {}
    assert read_catalogue('msgid ""\n"a "\n"\\"b\\""\nmsgstr "甲"\n') == {'a "b"': "甲"}


@pytest.mark.parametrize(
    "odd",
    ["", "{0}", "nothing known", "must be at most ", "\0", "是", "x" * 100_000, "{", "[" * 5000],
)
def test_any_text_comes_back_whatever_it_is(odd: str) -> None:
    assert told(odd, "en") == odd
    assert isinstance(told(odd, "zh"), str)
    assert told("no such sentence as this", "zh") == "no such sentence as this"


def test_a_thousand_faults_are_told_in_a_tenth_of_a_second() -> None:
    faults = [Fault(f"{n + 1} is more than total, {n}", n, "down") for n in range(500)]
    faults += [Fault(f"no entry is like the text {n}", n, "x") for n in range(500)]
    catalogue()
    began = time.thread_time()
    rows = rejected_rows(faults, "zh")
    took_s = time.thread_time() - began
    assert rows[3]["reason"] == "down：4 大于 total 的 3；x：no entry is like the text 3"
    assert took_s < 0.1


def test_the_remedies_inside_texts_are_told_too() -> None:
    packs = load_packs()
    for pack in (pack for plan in packs.plans() for pack in packs.versions(plan)):
        for group in pack.schema.groups.values():
            assert not group.key_remedy or CHINESE.search(told(group.key_remedy, "zh"))
    with pytest.raises(InvalidInput) as refused:
        read_position("nowhere", "WGS84")
    assert told(refused.value.faults[0].reason, "zh").startswith(
        "无法识别为位置；请写 [经度, 纬度]"
    )


# --- pydantic, JSON -------------------------------------------------------------------------------


class Everything(BaseModel):
    """A member of each type a query or body may have."""

    model_config = ConfigDict(extra="forbid", strict=False)
    needed: str
    whole: int = 0
    number: float = Field(0, ge=0, lt=10, allow_inf_nan=False)
    above: float = Field(1, gt=0, le=9)
    truth: bool = False
    word: Literal["a", "b"] = "a"
    code: str = Field("500103", pattern="^[0-9]{6}$")
    short: str = Field("", max_length=2)
    long: str = Field("xx", min_length=2)
    some: list[int] = Field([1], min_length=1, max_length=2)
    held: dict[str, int] = {}
    when: datetime | None = None
    which: UUID | None = None


@pytest.mark.parametrize(
    "given",
    [
        {}, {"needed": 1}, {"needed": "", "strange": 1}, {"needed": "", "whole": "x"},
        {"needed": "", "whole": 1.5}, {"needed": "", "whole": "9" * 5000}, {"needed": "", "whole": []},
        {"needed": "", "number": -1}, {"needed": "", "number": 10}, {"needed": "", "number": "x"},
        {"needed": "", "number": float("nan")}, {"needed": "", "above": 0}, {"needed": "", "above": 10},
        {"needed": "", "truth": "maybe"}, {"needed": "", "word": "c"}, {"needed": "", "code": "1"},
        {"needed": "", "short": "xyz"}, {"needed": "", "long": "x"}, {"needed": "", "some": []},
        {"needed": "", "some": [1, 2, 3]}, {"needed": "", "some": 5}, {"needed": "", "held": 5},
        {"needed": "", "when": "x"}, {"needed": "", "which": "x"}, {"needed": "", "which": 5}, 5,
    ],
)  # fmt: skip
def test_what_pydantic_says_is_told_in_chinese(given: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Everything).validate_python(given)
    answer = answer_error(RequestValidationError(refused.value.errors()), "zh")
    for fault in _json(answer)["errors"]:
        assert CHINESE.search(fault["reason"]), fault
        assert not re.search(r"[A-Za-z]{4,} [a-z]{2,} ", fault["reason"]), fault


def _json(answer: Any) -> Any:
    return httpx.Response(200, content=bytes(answer.body)).json()


# --- in answers -----------------------------------------------------------------------------------

BOWTIE = [[106.5, 29.5], [106.6, 29.6], [106.6, 29.5], [106.5, 29.6], [106.5, 29.5]]
SENT: dict[str, tuple[str, str, Any, str, str, str]] = {
    # name: account, path, body, field, Chinese, English
    "polygon": (
        "utility", "/v1/outages",
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [BOWTIE]},
         "properties": {"outage_id": "O", "revision": 1, "started_at": "2026-07-01T08:00:00+08:00",
                        "main_grid": True, "planned": False, "operator": "state_grid"}},
        "geometry", "边界在 [106.55, 29.55] 处自相交；请沿区域一周依次给出角点，各边互不交叉",
        "its border crosses itself at [106.55, 29.55]; give the corners in order",
    ),
    "time": (
        "utility", "/v1/returns", {"return_id": "R", "operator": "o", "kind": "k", "as_of": "today",
                                   "rows": [{}]},
        "as_of", "应为带时区的时间，如 2026-07-01T08:30:00+08:00", "must be a time with offset",
    ),
    "facts": (
        "viewer", "/v1/plans/power-outage-2021/assess", {"city": {"load_mw": 1, "load_shed_mw": 2}},
        "city.load_shed_mw", "大于 load_mw，部分不能超过整体", "is more than load_mw; a part",
    ),
    "incident": (
        "field", "/v1/incidents", {"incident_id": "1", "plan": "special-equipment-2023"},
        "incident_id", "应为 UUID，如 0190b7a2", "must be a UUID such as",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_a_fault_is_told_in_the_language_asked_for(
    client: httpx.Client, key: Key, name: str
) -> None:
    account, path, sent, field, chinese, english = SENT[name]
    for asked, expected in (
        ({}, chinese),
        ({"Accept-Language": "en-GB,en;q=0.9"}, english),
        ({"Accept-Language": "zh-CN"}, chinese),
    ):
        answer = client.post(path, json=sent, headers=key(account) | asked)
        body = assert_problem(answer, 422)
        reasons = {one["field"]: one["reason"] for one in body["errors"]}
        assert expected in reasons[field]
        assert expected in body["detail"]
        assert field in body["detail"]
    asked_in_query = client.post(
        f"{path}?lang=en", json=sent, headers=key(account) | {"Accept-Language": "zh"}
    )
    assert english in asked_in_query.json()["detail"]


EVENT = {"facility_id": "X", "state": "down", "observed_at": "2026-07-01T08:00:00+08:00"}


def test_rejected_status_rows_name_field_and_reason_in_both_languages(
    client: httpx.Client, key: Key
) -> None:
    events = [EVENT, {**EVENT, "event_id": "e", "state": "off"}, 7, {**EVENT, "event_id": ""}]
    sent = client.post("/v1/status", json=events, headers=key("utility")).json()
    assert sent["rejected"] == [
        {"row": 1, "field": "event_id", "reason": "缺少 event_id；每个事件须有唯一编号，重发时编号不变"},
        {"row": 2, "field": "state", "reason": "state 应为 up、degraded、down、unknown 之一"},
        {"row": 3, "field": None,
         "reason": "每个事件应为对象，含 event_id、facility_id、state、observed_at"},
        {"row": 4, "field": "event_id", "reason": "event_id 应为 1 至 128 个字符的文本"},
    ]  # fmt: skip
    told_in_english = client.post(
        "/v1/status", json=events, headers=key("utility") | {"Accept-Language": "en"}
    ).json()
    assert told_in_english["rejected"][0]["reason"].startswith("event_id is missing; give each")


def test_rejected_rows_of_a_return_name_their_line_fields_and_reasons(
    client: httpx.Client, key: Key
) -> None:
    table = "adcode,total,down\n500103,10,20\n\n500108,-1,x\n500106,10,2\n"
    query = "?return_id=M1&operator=telecom&kind=base_station&as_of=2026-07-01T08:00:00%2B08:00"
    sent = client.post(
        f"/v1/returns{query}",
        content=table.encode(),
        headers=key("utility") | {"Content-Type": "text/csv"},
    )
    assert sent.status_code == 200, sent.text
    assert sent.json()["accepted"] == 1
    assert sent.json()["rejected"] == [
        {"row": 1, "line": 2, "field": "down", "reason": "20 大于 total 的 10"},
        {"row": 3, "line": 4, "field": "total, down",
         "reason": "total：应不小于 0；down：应为整数"},
    ]  # fmt: skip


def test_rejected_facilities_name_line_field_and_reason_and_unread_columns_are_listed(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    (x, y), (x2, y2) = INSIDE[YUZHONG], INSIDE[NANAN]
    table = (
        "编号,经度,纬度,运营企业,备注\n"
        f'M-1,{x},{y},国网,"两行\n备注"\n'
        f"M-2,,{y},国网,\n"
        f"M-3,{x2},{y2},移动,\n"
        f",,{y2},移动,\n"
    )
    form = {"kind": "substation", "crs": "WGS84", "partial": "true"}
    files = {"file": ("s.csv", table.encode())}
    sent = client.post("/v1/facilities/import", files=files, data=form, headers=key("planner"))
    assert sent.status_code == 200, sent.text
    assert sent.json()["accepted"] == 2
    assert sent.json()["unread"] == ["备注"]
    assert sent.json()["rejected"] == [
        {"row": 2, "line": 4, "field": "lon", "reason": "为空，设施须有位置"},
        {"row": 4, "line": 6, "field": "facility_id, lon",
         "reason": "facility_id：为空，每个设施须有唯一编号；lon：为空，设施须有位置"},
    ]  # fmt: skip
    with owner.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT facility_id, operator FROM facility WHERE facility_id LIKE 'M-_' ORDER BY 1"
        ).all()
    assert [tuple(row) for row in found] == [("M-1", "国网"), ("M-3", "移动")]


@pytest.mark.parametrize(
    ("method", "path", "account", "status", "chinese", "english"),
    [
        ("GET", "/v1/situation", None, 401, "请在 /login 登录", "sign in at /login"),
        ("POST", "/v1/status", "viewer", 403, "角色 viewer 无权", "the role viewer may not"),
        ("GET", "/v1/incidents/0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "commander", 404,
         "没有这起事件", "no such incident"),
        ("GET", "/v1/situation?lang=fr", "viewer", 422, "lang：应为以下之一：zh, en",
         "lang: must be one of zh, en"),
        ("GET", "/v1/incidents?state=gone", "viewer", 422, "应为以下之一：open, reported",
         "must be one of open, reported"),
        ("PATCH", "/v1/incidents/0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "commander", 428,
         "请在 If-Match 中写明版本", "send If-Match"),
        ("GET", "/v1/incidents?limit=0", "viewer", 422, "应不小于 1", "greater than or equal"),
        ("GET", "/v1/situation?at=now", "viewer", 422, "应为带时区的时间", "must be a time"),
    ],
)  # fmt: skip
def test_every_refusal_says_why_in_the_language_asked_for(
    client: httpx.Client,
    key: Key,
    method: str,
    path: str,
    account: str | None,
    status: int,
    chinese: str,
    english: str,
) -> None:
    for asked, expected in (({}, chinese), ({"Accept-Language": "en"}, english)):
        headers = (key(account) if account else {}) | asked
        answer = client.request(
            method, path, headers=headers, content=b"{}" if method != "GET" else None
        )
        assert answer.status_code == status, answer.text
        assert expected in answer.text


@pytest.mark.parametrize("asked", ["lang=fr", "lang=", "lang=ZH", "lang=zh&lang=fr"])
def test_a_language_that_is_not_there_is_refused_in_one_language(
    client: httpx.Client, key: Key, asked: str
) -> None:
    for accepted, told_in in (("zh-CN", "zh"), ("en", "en"), ("fr", "zh"), ("", "zh")):
        headers = key("viewer") | {"Accept-Language": accepted}
        answer = client.get(f"/v1/plans?{asked}", headers=headers)
        body = assert_problem(answer, 422)
        fault = body["errors"][0]
        assert fault["field"] == "lang"
        reasons = {"zh": "应为以下之一：zh, en", "en": "must be one of zh, en"}
        assert fault["reason"] == reasons[told_in]
        assert " or " not in body["detail"]


def test_whatever_must_be_an_object_is_named_in_chinese() -> None:
    calls = [
        node
        for folder in ("api", "data", "geo")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "require_object"
    ]
    nouns = {ast.literal_eval(call.args[1]) for call in calls}
    assert {"a question about a region", "a scenario", "an incident"} <= nouns
    for noun in nouns:
        said = told(f"{noun} is a JSON object", "zh")
        assert said.endswith("应为 JSON 对象"), said
        assert CHINESE.search(said.removesuffix("应为 JSON 对象")), said


def test_no_question_about_a_region_is_refused_in_one_language(
    client: httpx.Client, key: Key
) -> None:
    answer = client.post("/v1/regions/query", headers=key("viewer"), content=b"null")
    assert assert_problem(answer, 422)["detail"] == "对区域的查询应为 JSON 对象"


def test_one_line_sums_up_faults_with_rows_and_fields() -> None:
    faults = [Fault("is missing", 3, "lon"), Fault("is empty", None, "name"), Fault("is null")]
    assert summary(faults, "zh") == "第 3 行 lon：缺少此项；name：为空，请填写；为空值，请填写"
    assert summary(faults, "en") == "row 3, lon: is missing; name: is empty; is null"


# --- rows and lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n3,4\n", {1: 2, 2: 3}),
        ("\n\na,b\n1,2\n\n3,4\n", {1: 4, 3: 6}),
        ('sep=;\na;b\n1;"x\ny\nz"\n3;4\n', {1: 3, 2: 6}),
        ('a,"b\nb"\n1,2\n3,4\n', {1: 3, 2: 4}),
        ('a,b\r\n1,"x\r\ny"\r\n\r\n3,4\r\n', {1: 2, 3: 5}),
    ],
)
def test_a_row_leads_back_to_the_line_it_begins_in(text: str, lines: dict[int, int]) -> None:
    table = read_table(text.encode(), "t.csv")
    assert table.frame.index.tolist() == list(lines)
    assert table.lines is not None
    assert {row: table.lines.of(row) for row in lines} == lines
