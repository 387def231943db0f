"""What a file that should be a table seems to be instead, so that a refusal can say it.

A table's first line names columns. A file whose first line holds fewer names than the least a table
of that kind needs is none, whatever follows; so prose, source text, pictures and documents are told
as what they are and not as a CSV with faults.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

from data.readers.file_type import OTHERS
from data.readers.tabular import decode_text, separator_of
from geo.errors import InvalidInput

HEAD_BYTES: Final = 65_536
#: Beginnings of the formats a table may have, whose own readers say what is wrong in them.
_TABLES: Final = (b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_MARKDOWN: Final = re.compile(r"# \S[^\n]*\r?\n\s*\n(?s:.*)\n## \S")
_JSON: Final = re.compile(r"\s*[\[{]\s*(\"|\{|\[|\]|\}|-?[0-9]|true|false|null)")
_SEPARATOR_SAID: Final = re.compile(r'"?sep=.\"?\r?\n', re.IGNORECASE)


def refuse_no_table(path: Path, name: str, *, columns_min: int, accepted: str) -> None:
    """Raise InvalidInput saying what `path` seems to be, if it cannot be a table of `columns_min`
    columns; `accepted` says what is taken. `name` only stands in the message."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.strip() or head.startswith(_TABLES):
        return
    text = _text(head)
    seeming = None if text is None else _seeming_text(text, name, columns_min)
    if seeming is None and text is not None:
        return
    # a table may begin with the letters that mark a picture or a program, so its columns come first
    marked = next((what for magic, what in OTHERS if head.startswith(magic)), None)
    seeming = marked or seeming or "binary and of no known kind"
    raise InvalidInput(f"{name[-80:]!r} seems to be {seeming}; {accepted}")


def _seeming_text(text: str, name: str, columns_min: int) -> str | None:
    """What a text is, None for what may be a table."""
    begins = text.lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype\s+html|html)\b", begins, re.IGNORECASE):
        return "a web page"
    if begins.startswith("<"):
        if "<!DOCTYPE" in begins[:4096].upper():
            return "XML with a document type, which is not accepted"
        return "XML of another kind"
    if _JSON.match(begins):
        return "JSON but no GeoJSON"
    if _names(text) >= columns_min:
        return None
    if name.lower().endswith((".md", ".markdown")) or _MARKDOWN.match(begins):
        return "a Markdown text"
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.count("|") + 1 >= columns_min:
        return "a table whose cells are parted by | instead of commas"
    return "plain text"


def _text(head: bytes) -> str | None:
    """The beginning as text; its last line, which may be cut inside a letter, is left out."""
    whole = head if len(head) < HEAD_BYTES else head.rpartition(b"\n")[0] or head[:-4]
    try:
        return decode_text(whole, "")[0]
    except InvalidInput:
        return None


def _names(text: str) -> int:
    """How many names the first line that is not blank holds."""
    said = _SEPARATOR_SAID.match(text)
    separator = said[0].strip('"\r\n')[-1] if said else separator_of(text)
    lines = (text[said.end() :] if said else text).splitlines(keepends=True)
    while lines and not lines[0].strip():
        lines.pop(0)
    try:
        # a quoted name may hold line breaks, so the line is read as the table's reader would
        first = next(csv.reader(iter(lines), delimiter=separator), [])
    except csv.Error:
        return 0
    return sum(1 for cell in first if cell.strip())
