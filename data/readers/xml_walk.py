"""XML from strangers, element by element: no document types, no entities, nothing fetched."""

from __future__ import annotations

import codecs
import contextlib
import re
import xml.parsers.expat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from geo.errors import InvalidInput, TooLarge

DEPTH_MAX: Final = 100
CHARACTERS_MAX: Final = 1 << 20
"""Of the text of one element."""
_BLOCK: Final = 1 << 16
_DECLARED: Final = re.compile(rb"""^<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})""")

Start = Callable[[list[str], dict[str, str]], None]
End = Callable[[list[str], str], None]


def walk_xml(data: bytes, start: Start, end: End) -> None:
    """Call `start(path, attributes)` and `end(path, text)` for every element.

    `path` are the local names from the root to the element, `text` what stands directly in it.
    Raises InvalidInput for what is no well-formed XML or declares a document type or an entity.
    """
    path: list[str] = []
    texts: list[list[str]] = []
    lengths: list[int] = []

    def began(name: str, attributes: dict[str, str]) -> None:
        if len(path) >= DEPTH_MAX:
            raise TooLarge(f"the XML is nested more than {DEPTH_MAX} levels deep")
        path.append(name.rpartition(" ")[2])
        texts.append([])
        lengths.append(0)
        start(path, attributes)

    def ended(_: str) -> None:
        lengths.pop()
        end(path, "".join(texts.pop()))
        path.pop()

    def characters(text: str) -> None:
        if texts:
            lengths[-1] += len(text)
            if lengths[-1] > CHARACTERS_MAX:
                raise TooLarge(f"an element holds more than {CHARACTERS_MAX} characters of text")
            texts[-1].append(text)

    data, encoding = _decodable(data)
    parser = xml.parsers.expat.ParserCreate(encoding, namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = began
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        for at in range(0, len(data), _BLOCK):
            parser.Parse(data[at : at + _BLOCK], False)
        parser.Parse(b"", True)
    except xml.parsers.expat.ExpatError as error:
        line = error.lineno
        raise InvalidInput(f"the XML is damaged at line {line}: it is not well-formed") from None


def root_of(path: Path) -> str:
    """The local name of the root element. Raises InvalidInput as `walk_xml` does."""
    found: list[str] = []

    class _Found(Exception):
        pass

    def first(_: list[str], __: dict[str, str]) -> None:
        found.append(_[0])
        raise _Found

    with path.open("rb") as file:
        head = file.read(1 << 20)
    with contextlib.suppress(_Found):
        walk_xml(head, first, lambda _, __: None)
    return found[0] if found else ""


def _refuse_doctype(*_: object) -> NoReturn:
    raise InvalidInput("the XML declares a document type or an entity; save it without")


def _decodable(data: bytes) -> tuple[bytes, str | None]:
    """What expat can read: it knows UTF-8 and UTF-16, Chinese programs also write GB encodings."""
    data = data.lstrip() if not data.startswith((b"\xff\xfe", b"\xfe\xff")) else data
    declared = _DECLARED.match(data.removeprefix(codecs.BOM_UTF8))
    if declared and declared[1].lower() in (b"gb2312", b"gbk", b"gb18030", b"cp936"):
        try:
            return data.decode("gb18030").encode(), "utf-8"
        except UnicodeDecodeError:
            raise InvalidInput("the XML says it is GB18030 but is not; save it as UTF-8") from None
    return data, None
