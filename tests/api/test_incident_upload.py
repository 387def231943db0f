"""A file of incidents on its way in: made to do harm, broken off, too large, too many, with progress."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import assert_problem
from tests.api.incident_rows import PATH, SAID, line, table
from tests.data.incident_files.hostile import HARMLESS, HOSTILE, ROWS, write_hostile

#: Of each kind of harm one or two: tests/data/test_hostile_files.py has every file read, this test
#: sends them all with `-m bench`.
SOME = (
    "vrt.geojson", "vrt_inside.zip", "xxe.gpx", "laughs.xlsx", "deep.kml", "lying.kmz", "nested.kmz", "many.kmz",
    "up.kmz", "symlink.kmz", "huge.xlsx", "both.zip", "900mp.jpg", "zip_behind.geojson", "deep.geojson",
    "digits.geojson", "nul.csv", "many_rows.csv", "endless.gpkg", "program.jpg", "loop.jpg", "overflow.csv",
    "nan.kml", "nul.geojson", "wide_characters.csv",
)  # fmt: skip
NDJSON = {"Accept": "application/x-ndjson"}


def await_emptied(scratch: Path) -> None:
    """No file stays behind, though one may be removed a little after its answer."""
    deadline = time.monotonic() + 40
    while list(scratch.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- files made to do harm ----------------------------------------------------------------------


@pytest.mark.parametrize("names", [SOME, pytest.param(tuple(HOSTILE), marks=pytest.mark.bench)])
def test_hostile_files_are_refused_in_time_while_others_are_served(
    names: Sequence[str],
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("YUTU_PARSE_CPU_SECONDS", "4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_hostile(tmp_path, names)
    waits: list[float] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server, timeout=30) as client:
            while not done.is_set():
                begun = time.monotonic()
                assert client.get("/health").status_code == 200
                waits.append(time.monotonic() - begun)
                time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    before = count_rows()
    told = {}
    try:
        for name, path in paths.items():
            begun = time.monotonic()
            answer = post_afresh(path, said=SAID, dry_run=name in HARMLESS)
            told[name] = (answer.status_code, time.monotonic() - begun)
            if name in HARMLESS:
                continue
            body = assert_problem(answer, answer.status_code)
            assert "root:" not in answer.text
            if name in ROWS:
                assert body["rejected"]
    finally:
        done.set()
        asking.join(10)
    assert {
        name: status for name, (status, _) in told.items() if status not in (413, 422)
    } == dict.fromkeys(HARMLESS.intersection(names), 200)
    assert max(seconds for _, seconds in told.values()) < 20
    assert count_rows() == before
    waits.sort()
    print(
        f"{len(told)} files, slowest {max(s for _, s in told.values()):.1f} s; /health:"
        f" p50 {waits[len(waits) // 2] * 1000:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1000:.0f} ms"
    )
    assert waits[len(waits) * 99 // 100] < 0.25


# --- the form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a\x00b.csv", "../../etc/passwd.csv", "..\\..\\x.csv", ".csv", "x" * 500 + ".csv", "表.csv",
     "a.csv/", 'a".csv', "a\r\nX: y.csv", "\u202ea.csv"],
)  # fmt: skip
def test_a_file_s_name_is_a_text_and_nothing_else(
    post_afresh: Callable[..., httpx.Response], name: str
) -> None:
    answer = post_afresh((name, table(line())[1]))
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1


def test_what_is_no_form_with_a_file_is_told_how_to_send_one(
    client: httpx.Client, key: Callable[[str], dict[str, str]], scratch: Path
) -> None:
    who = key("commander") | {"Accept-Language": "en"}
    for options in (
        {"content": b"a,b\n1,2\n", "headers": {"Content-Type": "text/csv"}},
        {"data": {"file": "text"}},
        {"files": {"other": ("a.csv", b"x")}},
        {"json": {"file": "x"}},
        {},
    ):
        headers = {**who, **options.pop("headers", {})}  # type: ignore[dict-item]
        told = assert_problem(client.post(PATH, headers=headers, **options), 422)  # type: ignore[arg-type]
        assert told["errors"][0]["field"] == "file"
    broken = {"Content-Type": "multipart/form-data"}
    told = assert_problem(client.post(PATH, headers=who | broken, content=b"--x\r\n"), 422)
    assert "the form cannot be read" in told["detail"]
    two = [("file", ("a.csv", b"a")), ("file", ("b.csv", b"b"))]
    told = assert_problem(client.post(PATH, headers=who, files=two), 422)
    assert "send one file" in told["detail"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("last", ["file", "dry_run"])
def test_a_form_that_breaks_off_is_refused_although_its_file_may_be_whole(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    last: str,
) -> None:
    """What was said behind the file, such as to store nothing, would be lost."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    parts = {
        "file": part.format("file", '; filename="a.csv"').encode() + table(line())[1] + b"\r\n",
        "dry_run": part.format("dry_run", "").encode() + b"false\r\n",
    }
    parts[last] = parts.pop(last)
    whole = b"".join(parts.values()) + b"--b--\r\n"
    headers = key("commander") | {"Content-Type": "multipart/form-data; boundary=b"}
    before = count_rows()
    for cut in {
        *(len(whole) * tenth // 10 for tenth in range(10)),
        *range(len(whole) - 60, len(whole) - 3),
    }:
        assert_problem(client.post(PATH, headers=headers, content=whole[:cut]), 422)
    assert count_rows() == before
    assert client.post(PATH, headers=headers, content=whole).json()["accepted"] == 1


def test_too_large_a_file_is_refused_before_and_after_it_has_come(
    post_afresh: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    key: Callable[[str], dict[str, str]],
) -> None:
    told = assert_problem(post_afresh(("a.csv", bytes(34 << 20))), 413)
    assert "32 MiB" in told["detail"]
    monkeypatch.setenv("YUTU_PARSE_FILE_MIB", "1")
    body = b"".join(
        [b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n',
         b"a\n" * (1 << 20), b"\r\n--b--\r\n"]
    )  # fmt: skip
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    answer = httpx.post(
        server + PATH,
        content=chunks,  # without Content-Length
        headers=key("commander") | {"Content-Type": "multipart/form-data; boundary=b"},
        timeout=30,
    )
    assert "1 MiB" in assert_problem(answer, 413)["detail"]


def test_rows_are_limited_as_published(
    post_afresh: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_PARSE_ROWS", "3")
    assert post_afresh(table(*(line() for _ in range(3)))).json()["accepted"] == 3
    assert_problem(post_afresh(table(*(line() for _ in range(4)))), 413)


# --- progress -----------------------------------------------------------------------------------


def test_progress_comes_line_by_line_and_the_receipt_last(
    post_afresh: Callable[..., httpx.Response],
    server: str,
    key: Callable[[str], dict[str, str]],
) -> None:
    file = table(*(line(lon=f"{106.4 + n / 1e5:.5f}") for n in range(3_000)))
    arrived = []
    with httpx.stream(
        "POST", server + PATH, files={"file": file}, headers=key("commander") | NDJSON, timeout=60
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        for one in answer.iter_lines():
            arrived.append((time.monotonic(), json.loads(one)))
    *steps, (ended, receipt) = arrived
    assert receipt["accepted"] == 3_000
    stages = [step["stage"] for _, step in steps]
    assert list(dict.fromkeys(stages))[-3:] == ["check", "place", "store"]
    assert all(0 <= step["done"] <= step["of"] == 3_000 for _, step in steps)
    assert steps[-1][1] == {"stage": "store", "done": 3_000, "of": 3_000}
    assert ended - arrived[0][0] > 0.05, "they came one after another, not at the end"
    again = post_afresh(file, headers=NDJSON)
    assert json.loads(again.text.splitlines()[-1])["duplicates"] == 3_000


@pytest.mark.parametrize(
    ("file", "status"),
    [(table(line(deaths="-1")), 422), (("a.csv", b"%PDF-1.7\n"), 422)],
)
def test_a_refusal_after_progress_is_the_last_line_with_its_status(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    file: tuple[str, bytes],
    status: int,
) -> None:
    before = count_rows()
    answer = post_afresh(file, headers=NDJSON)
    assert answer.status_code == 200
    told = json.loads(answer.text.splitlines()[-1])
    assert told["status"] == status
    assert told["type"].startswith("urn:yutu:problem:")
    assert count_rows() == before


def test_who_goes_away_while_it_is_read_leaves_nothing_behind_and_the_file_whole(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    server: str,
    scratch: Path,
    key: Callable[[str], dict[str, str]],
) -> None:
    file = table(*(line() for _ in range(2_000)))
    for number, headers in enumerate((NDJSON, {})):
        with httpx.Client(timeout=0.3 if not headers else 30) as client:
            try:
                with client.stream(
                    "POST", server + PATH, files={"file": file}, headers=key("commander") | headers
                ) as answer:
                    next(answer.iter_raw())
            except httpx.TimeoutException:
                assert not headers, "only the plain one waits for its answer"
        await_emptied(scratch)
        assert count_rows()["incident"] == 2_000, number


# --- many at once -------------------------------------------------------------------------------


def test_more_files_than_can_be_read_are_turned_away_and_health_answers(
    post_afresh: Callable[..., httpx.Response],
    server: str,
    key: Callable[[str], dict[str, str]],
    scratch: Path,
) -> None:
    def one(number: int) -> httpx.Response:
        file = table(*(line() for _ in range(50)))
        return httpx.post(server + PATH, files={"file": file}, headers=key("commander"), timeout=60)

    with ThreadPoolExecutor(30) as pool:
        waiting = [pool.submit(one, number) for number in range(30)]
        slowest = 0.0
        while not all(each.done() for each in waiting):
            begun = time.monotonic()
            assert httpx.get(f"{server}/health", timeout=30).status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
        answers = [each.result() for each in waiting]
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503}
    taken = [answer for answer in answers if answer.status_code == 200]
    assert len(taken) >= 2
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
    assert slowest < 5
    assert list(scratch.iterdir()) == [], "no file outlives its answer"
