"""Tables as people and programs write them."""

from __future__ import annotations

import datetime
import io
import zipfile

import openpyxl
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from data.readers.tabular import Table, read_table
from geo.errors import InvalidInput, TooLarge

TEXT = "facility_id,name,lon\nA1,渝中基站,106.55\n"


def rows(table: Table):
    return list(table.records())


def workbook(*lines, other_sheets=()):
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    for title in other_sheets:
        book.create_sheet(title).append(["not", "this"])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def parquet(frame):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), buffer)
    return buffer.getvalue()


# --- CSV -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("gb18030", "gb18030"),
        ("gbk", "gb18030"),
        ("utf-16", "utf-16"),
    ],
)
def test_chinese_text_is_read_in_every_usual_encoding(encoding, found):
    table = read_table(TEXT.encode(encoding), "a.csv")
    assert rows(table) == [(1, {"facility_id": "A1", "name": "渝中基站", "lon": "106.55"})]
    assert (table.format, table.encoding) == ("csv", found)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_the_separator_and_line_end_are_found(separator, newline):
    text = newline.join(
        [separator.join(["id", "n"]), separator.join(["a", "1"]), separator.join(["b", "2"])]
    )
    assert rows(read_table(text.encode(), "a")) == [
        (1, {"id": "a", "n": "1"}),
        (2, {"id": "b", "n": "2"}),
    ]


def test_a_separator_inside_quotes_does_not_count():
    table = read_table(b'"a,b,c";d\n"1,2,3";4\n', "a")
    assert rows(table) == [(1, {"a,b,c": "1,2,3", "d": "4"})]


def test_the_separator_line_of_spreadsheets_is_obeyed():
    assert rows(read_table(b"sep=;\r\na;b\r\n1;2\r\n", "a")) == [(1, {"a": "1", "b": "2"})]


def test_text_stays_text_and_codes_keep_their_zeros():
    assert rows(read_table(b"id,when,n\n00123,2025-11-06,1e3\n", "a")) == [
        (1, {"id": "00123", "when": "2025-11-06", "n": "1e3"})
    ]


def test_blank_rows_are_skipped_and_counted():
    table = read_table(b"\n\nid,n\na,1\n\n , \nb,2\n\n", "a")
    assert rows(table) == [(1, {"id": "a", "n": "1"}), (4, {"id": "b", "n": "2"})]


def test_headers_and_cells_are_stripped_and_blanks_are_missing():
    assert rows(read_table("\u200b id \t, name\n a ,  \n".encode(), "a")) == [
        (1, {"id": "a", "name": None})
    ]


def test_a_cell_may_hold_line_ends():
    assert rows(read_table(b'id,note\na,"x\ny"\nb,z\n', "a")) == [
        (1, {"id": "a", "note": "x\ny"}),
        (2, {"id": "b", "note": "z"}),
    ]


def test_a_short_row_ends_in_missing_cells():
    assert rows(read_table(b"id,n,m\na,1\n", "a")) == [(1, {"id": "a", "n": "1", "m": None})]


def test_a_cell_beyond_the_header_is_a_fault_of_its_row_and_the_others_are_kept():
    table = read_table(b"id,n\na,1,,\nb,2,3\nc,4\n", "a")
    assert [row for row, _ in rows(table)] == [1, 3]
    assert [(f.row, f.reason) for f in table.faults] == [(2, "cell 3 stands under no column name")]


def test_a_blank_column_without_a_name_is_dropped_and_a_used_one_is_a_fault():
    table = read_table(b"id,,n\na,,1\nb,x,2\n", "a")
    assert rows(table) == [(1, {"id": "a", "n": "1"})]
    assert [f.row for f in table.faults] == [2]


def test_a_repeated_header_is_a_fault_that_names_the_column():
    with pytest.raises(InvalidInput) as caught:
        read_table(b"id,n, id ,n\na,1,b,2\n", "a")
    assert [f.field for f in caught.value.faults] == ["id", "n"]


@pytest.mark.parametrize(
    "data",
    [b"", b" \n\t ", b"\xef\xbb\xbf", b",,\n,,\n", b"id,n\n", b"id,n\n,\n", b"a\0b,c\n1,2\n", b"id,n\n\xff\xff\xff\x80,1\n",
     "id\n1".encode("utf-16")[:-1], b'id,n\n"a,1\nb,2\n', b'id,n\n"a"b,2\n', b"id\n" + b"x" * 200_000, bytes(range(256)) * 10],
    ids=["nothing", "only blanks", "only a mark", "blank cells", "no rows", "only blank rows", "a NUL", "undecodable",
         "half a character", "an open quote", "text after a quote", "a cell without end", "bytes"],
)  # fmt: skip
def test_what_is_no_table_is_refused(data):
    with pytest.raises(InvalidInput):
        read_table(data, "a.csv")


def test_the_cap_on_rows_counts_rows_with_content():
    text = b"id\n" + b"\n".join(b"%d" % i for i in range(10))
    assert len(read_table(text, "a", max_rows=10).frame) == 10
    with pytest.raises(TooLarge, match="more than 9 rows"):
        read_table(text, "a", max_rows=9)


def test_rows_keep_their_numbers_across_chunks(monkeypatch):
    monkeypatch.setattr("data.readers.tabular._CHUNK_ROWS", 3)
    text = "id,n\n" + "".join("\n" if i % 5 == 0 else f"{i},{i * i}\n" for i in range(1, 23))
    expected = [(i, {"id": str(i), "n": str(i * i)}) for i in range(1, 23) if i % 5]
    assert rows(read_table(text.encode(), "a")) == expected
    with pytest.raises(TooLarge):
        read_table(text.encode(), "a", max_rows=len(expected) - 1)
    assert len(read_table(text.encode(), "a", max_rows=len(expected)).frame) == len(expected)


def test_a_file_is_read_from_its_path(tmp_path):
    path = tmp_path / "设施.csv"
    path.write_bytes(TEXT.encode("gb18030"))
    assert len(rows(read_table(path, path.name))) == 1


# --- XLSX ------------------------------------------------------------------------------------------


def test_a_workbook_keeps_numbers_truths_and_dates_and_leaves_text_alone():
    moment = datetime.datetime.fromisoformat("2025-11-06T12:30")
    data = workbook(
        ["id", "load_kw", "share", "up", "seen", "day", "typed"],
        [500101, 1200, 0.5, True, moment, datetime.date(2025, 11, 6), "2025-11-06"],
    )
    assert rows(read_table(data, "a.xlsx")) == [
        (
            1,
            {
                "id": 500101,
                "load_kw": 1200,
                "share": 0.5,
                "up": True,
                "seen": moment,
                "day": datetime.date(2025, 11, 6),
                "typed": "2025-11-06",
            },
        )
    ]


def test_integers_of_a_workbook_are_integers_and_text_codes_keep_their_zeros():
    values = rows(read_table(workbook(["a", "b"], [7, "007"]), "x"))[0][1]
    assert values == {"a": 7, "b": "007"}
    assert type(values["a"]) is int


def test_a_workbook_is_numbered_as_its_sheet_is():
    data = workbook([], ["id", "n"], ["a", 1], [None, None], ["b", None])
    assert rows(read_table(data, "x")) == [(1, {"id": "a", "n": 1}), (3, {"id": "b", "n": None})]


def test_only_the_first_sheet_is_read():
    assert rows(read_table(workbook(["id"], ["a"], other_sheets=["说明"]), "x")) == [
        (1, {"id": "a"})
    ]


def test_an_error_value_of_a_workbook_is_missing():
    assert rows(read_table(workbook(["id", "n"], ["a", "#N/A"]), "x")) == [
        (1, {"id": "a", "n": None})
    ]


def test_a_sheet_with_two_cells_at_the_ends_of_the_world_is_refused():
    book = openpyxl.Workbook()
    book.active["A1"] = "id"
    book.active["XFD1048576"] = 1
    buffer = io.BytesIO()
    book.save(buffer)
    with pytest.raises(TooLarge, match="1048576 rows × 16384 columns"):
        read_table(buffer.getvalue(), "x")


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("data.readers.tabular.MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(TooLarge):
        read_table(workbook(["id"], ["a"]), "x")


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04garbage", archive(readme="x"), archive(**{"xl/workbook.xml": "<not>"}),
        workbook(["id"], ["a"])[:-200], b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        workbook(["id", "id"], ["a", "b"]), workbook([]),
    ],
    ids=["cut", "another archive", "no workbook inside", "cut at the end", "an old format", "a repeated header", "nothing"],
)  # fmt: skip
def test_what_is_no_workbook_is_refused(data):
    with pytest.raises(InvalidInput):
        read_table(data, "a.xlsx")


def test_every_damaged_byte_of_a_workbook_ends_in_an_answer_or_a_domain_error():
    sound = workbook(["id", "n"], ["a", 1])
    refused = 0
    for position in range(0, len(sound), 97):
        damaged = sound[:position] + bytes([sound[position] ^ 0xFF]) + sound[position + 1 :]
        try:
            read_table(damaged, "x")
        except InvalidInput:
            refused += 1
    assert refused > 10


# --- Parquet ---------------------------------------------------------------------------------------


def test_parquet_keeps_its_types_and_nulls():
    frame = pd.DataFrame(
        {
            "id": ["a", "b", None],
            "n": pd.array([1, None, None], dtype="Int64"),
            "x": [0.5, None, None],
            "t": pd.to_datetime(["2025-11-06", None, None]),
        }
    )
    table = read_table(parquet(frame), "a.parquet")
    assert table.format == "parquet"
    assert rows(table) == [
        (1, {"id": "a", "n": 1, "x": 0.5, "t": datetime.datetime.fromisoformat("2025-11-06")}),
        (2, {"id": "b", "n": None, "x": None, "t": None}),
    ]


def test_a_large_integer_beside_a_null_is_not_rounded():
    frame = pd.DataFrame({"n": pd.array([2**60 + 1, None], dtype="Int64"), "id": ["a", "b"]})
    assert rows(read_table(parquet(frame), "a"))[0][1]["n"] == 2**60 + 1


@pytest.mark.parametrize("cut", [4, 20, 200])
def test_damaged_parquet_is_refused(cut):
    data = parquet(pd.DataFrame({"id": ["a"]}))
    with pytest.raises(InvalidInput):
        read_table(data[:-cut], "a")


def test_parquet_without_rows_or_beyond_the_cap_is_refused():
    with pytest.raises(InvalidInput):
        read_table(parquet(pd.DataFrame({"id": pd.array([], dtype="str")})), "a")
    with pytest.raises(TooLarge):
        read_table(parquet(pd.DataFrame({"id": range(10)})), "a", max_rows=9)


def test_parquet_with_a_name_twice_after_stripping_is_refused():
    table = pyarrow.table({"id": ["a"], " id": ["b"]})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    with pytest.raises(InvalidInput, match="twice"):
        read_table(buffer.getvalue(), "a")
