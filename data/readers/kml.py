"""KML and KMZ as people make them with Google Earth, 奥维 and others: a placemark is a record.

Folders are read through; a placemark's ExtendedData (Data and SchemaData) are cells under their own
names, its name, description, address and time under `name`, `description`, `address` and `time`.
Descriptions lose their HTML: what stays is text. Nothing a document links to is fetched.
"""

from __future__ import annotations

import html.parser
import math
import re
from pathlib import Path
from typing import Final

from data.readers.archive import open_archive, read_member
from data.readers.records import FileRecord, FileRecords, headers_of
from data.readers.xml_walk import walk_xml
from geo.crs import WGS84
from geo.errors import Fault, InvalidInput, TooLarge

_TEXTS: Final = {"name", "description", "address"}
_SHAPES: Final = {"LineString", "LinearRing", "Polygon", "MultiGeometry", "Model", "Track",
                  "MultiTrack"}  # fmt: skip
_LINKS: Final = {"NetworkLink", "GroundOverlay", "ScreenOverlay", "PhotoOverlay", "Tour"}
_BREAKS: Final = frozenset({"br", "p", "div", "tr", "li", "table", "h1", "h2", "h3", "h4"})
_HIDDEN: Final = frozenset({"script", "style", "head", "template"})
_TAG: Final = re.compile(r"<[A-Za-z/!?]|&(?:#\w{1,8}|[A-Za-z]{2,8});")


def read_kml(path: Path, rows_max: int) -> FileRecords:
    """The placemarks of a KML document, in order; WGS84 by the format's definition."""
    return _read(path.read_bytes(), "kml", rows_max)


def read_kmz(path: Path, rows_max: int) -> FileRecords:
    """The placemarks of the document in a KMZ: doc.kml, else the first .kml. Other documents in it
    are named in `unread`."""
    with open_archive(path) as archive:
        documents = [n for n in archive.namelist() if n.lower().endswith(".kml")]
        main = next((n for n in documents if n.lower() == "doc.kml"), documents[0])
        found = _read(read_member(archive, main), "kmz", rows_max)
    found.unread += [name[:80] for name in documents if name != main]
    return found


def plain_text(given: str) -> str:
    """Text without any tag, even one written as &lt;b&gt;; lines where the page had them."""
    for _ in range(3):
        if not _TAG.search(given):
            break
        reader = _Text()
        reader.feed(given)
        reader.close()
        given = "".join(reader.parts)
    given = re.sub(r"<(?=[A-Za-z/!?])", "‹", given)
    lines = (re.sub(r"[ \t\r\f\v\xa0]+", " ", line).strip() for line in given.split("\n"))
    return "\n".join(line for line in lines if line)


class _Text(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _HIDDEN
        if tag in _BREAKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in _HIDDEN))
        if tag in _BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


class _Placemarks:
    """Collects placemarks while the document is walked."""

    def __init__(self, rows_max: int) -> None:
        self.records: list[FileRecord] = []
        self.unread: dict[str, None] = {}
        self._rows_max = rows_max
        self._now: FileRecord | None = None
        self._data: str | None = None
        self._points: list[str] = []
        self._shapes: list[str] = []

    def start(self, path: list[str], attributes: dict[str, str]) -> None:
        name = path[-1]
        if name == "Placemark":
            if len(self.records) == self._rows_max:
                raise TooLarge(f"the file has more than {self._rows_max} rows")
            self._now = FileRecord(len(self.records) + 1, {})
            self.records.append(self._now)
            self._points, self._shapes = [], []
        elif name in ("Data", "SimpleData"):
            self._data = attributes.get("name", "").strip() or None
        elif name in _LINKS:
            self.unread[name] = None
        elif name in _SHAPES and self._now is not None:
            self._shapes.append(name)

    def end(self, path: list[str], text: str) -> None:
        name, parent = path[-1], path[-2] if len(path) > 1 else ""
        record = self._now
        if record is None:
            if name == "name" and parent == "Folder" and text.strip():
                self.unread["Folder"] = None
            return
        if name == "Placemark":
            self._place(record)
            self._now = None
        elif parent == "Placemark" and name in _TEXTS:
            self._cell(record, name, plain_text(text))
        elif (name, parent) in (("when", "TimeStamp"), ("begin", "TimeSpan")):
            self._cell(record, "time", text.strip())
        elif name == "coordinates" and parent == "Point":
            self._points.append(text)
        elif self._data and (name == "SimpleData" or (name == "value" and parent == "Data")):
            self._cell(record, self._data, plain_text(text))
        elif parent == "Placemark" and name in ("phoneNumber", "Snippet", "snippet"):
            self._cell(record, name, plain_text(text))

    def _cell(self, record: FileRecord, name: str, text: str) -> None:
        if text:
            record.cells.setdefault(name, text)

    def _place(self, record: FileRecord) -> None:
        others = [shape for shape in self._shapes if shape != "MultiGeometry"]
        if others or len(self._points) > 1:
            what = others[0] if others else "several points"
            record.faults.append(
                Fault(f"an incident is one point; this placemark is {what}", record.row, "geometry")
            )
        elif self._points:
            record.place = _coordinates(record, self._points[0])


def _coordinates(record: FileRecord, text: str) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.strip().split(",")]
        if len(numbers) not in (2, 3) or not all(map(math.isfinite, numbers)):
            raise ValueError
    except ValueError:
        record.faults.append(
            Fault("must be two finite numbers, longitude,latitude", record.row, "coordinates")
        )
        return None
    return numbers[:2]


def _read(data: bytes, form: str, rows_max: int) -> FileRecords:
    marks = _Placemarks(rows_max)
    walk_xml(data, marks.start, marks.end)
    if not marks.records:
        linked = "; what it links to is not fetched" if "NetworkLink" in marks.unread else ""
        raise InvalidInput(f"the KML document holds no placemark{linked}")
    return FileRecords(
        form, marks.records, headers_of(marks.records), crs=WGS84, unread=list(marks.unread)
    )
