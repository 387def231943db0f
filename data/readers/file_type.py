"""What a file of incidents is, by its content; a name that says something else is refused.

Nothing is taken on a name's word: the first bytes, the root of an XML document and the members of
an archive decide. A file that is two things at once is refused.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final

from data.readers.archive import open_archive
from data.readers.xml_walk import root_of
from geo.errors import InvalidInput

FORMATS: Final = {
    "geojson": "GeoJSON", "csv": "CSV", "xlsx": "XLSX", "gpx": "GPX", "kml": "KML", "kmz": "KMZ",
    "shapefile": "a zipped Shapefile", "geopackage": "GeoPackage", "jpeg": "a JPEG photo",
    "heic": "a HEIC photo",
}  # fmt: skip
EXPECTED: Final = (
    "expected is GeoJSON, CSV, XLSX, GPX, KML, KMZ, a zipped Shapefile, GeoPackage, or a photo in"
    " JPEG or HEIC"
)
#: Extension → formats it may name; an extension that is not listed says nothing.
_EXTENSIONS: Final = {
    "geojson": {"geojson"}, "json": {"geojson"}, "csv": {"csv"}, "tsv": {"csv"}, "txt": {"csv"},
    "xlsx": {"xlsx"}, "gpx": {"gpx"}, "kml": {"kml"}, "kmz": {"kmz"}, "gpkg": {"geopackage"},
    "zip": {"shapefile", "kmz"}, "xml": {"gpx", "kml"},
    "jpg": {"jpeg", "heic"}, "jpeg": {"jpeg", "heic"},
    "heic": {"jpeg", "heic"}, "heif": {"jpeg", "heic"},
}  # fmt: skip
OTHERS: Final = (
    (b"\x89PNG", "a PNG picture"), (b"GIF8", "a GIF picture"), (b"RIFF", "a WebP picture or sound"),
    (b"II*\0", "a TIFF picture"), (b"MM\0*", "a TIFF picture"), (b"BM", "a bitmap"),
    (b"%PDF-", "a PDF"), (b"\xd0\xcf\x11\xe0", "an old or encrypted Office file"),
    (b"\x7fELF", "a program"), (b"MZ", "a program"), (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"), (b"Rar!", "a RAR archive"), (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"), (b"PAR1", "a Parquet file"), (b"fgb", "FlatGeobuf"),
    (b"\x00\x00\x27\x0a", "a bare .shp; send .shp, .shx, .dbf and .prj in one ZIP"),
    (b"{\\rtf", "a rich text document"),
)  # fmt: skip
_HEIC: Final = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1")


def incident_format(path: Path, name: str) -> str:
    """The format, a key of FORMATS. Raises InvalidInput saying what the file is instead."""
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise InvalidInput("the file is empty")
    found = _by_content(path, head)
    if not head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        raise InvalidInput(
            f"the file is {FORMATS[found]} with an archive hidden behind it; {EXPECTED}"
        )
    extension = name.rpartition(".")[2].lower()
    if found not in _EXTENSIONS.get(extension, FORMATS):
        raise InvalidInput(
            f"the file is {FORMATS[found]} under the name of a .{extension} file;"
            " give it its own extension"
        )
    return found


def _by_content(path: Path, head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head.startswith(b"\xff\xd8\xff"):
        if b"%PDF-" in head[:1024]:
            raise InvalidInput(f"the file is a JPEG photo and a PDF at once; {EXPECTED}")
        return "jpeg"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "heic"
    if head.startswith(b"SQLite format 3\0"):
        if head[68:72] in (b"GPKG", b"GP10", b"GP11"):
            return "geopackage"
        raise InvalidInput(f"the file is an SQLite database but no GeoPackage; {EXPECTED}")
    for magic, what in OTHERS:
        if head.startswith(magic):
            raise InvalidInput(f"the file is {what}; {EXPECTED}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "geojson"
    if text.startswith((b"<", b"\xff\xfe<", b"\xfe\xff\0<")):
        if re.match(rb"<(!doctype\s+html|html)\b", text, re.IGNORECASE):
            raise InvalidInput(f"the file is a web page; {EXPECTED}")
        root = root_of(path)
        if root in ("kml", "gpx"):
            return root
        raise InvalidInput(f"the file is XML with the root element {root[:40]!r}; {EXPECTED}")
    if text.startswith(b"["):
        raise InvalidInput(f"the file is a JSON list, not a GeoJSON FeatureCollection; {EXPECTED}")
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(f"the file is binary and of no known kind; {EXPECTED}")
    return "csv"


def _archive(path: Path) -> str:
    with open_archive(path) as archive:
        members = [part.filename.lower() for part in archive.infolist()]
    found = {
        "xlsx": "xl/workbook.xml" in members,
        "shapefile": any(member.endswith(".shp") for member in members),
        "kmz": any(member.endswith(".kml") for member in members),
    }
    kinds = [kind for kind, is_one in found.items() if is_one]
    if len(kinds) > 1:
        both = " and ".join(FORMATS[kind] for kind in kinds)
        raise InvalidInput(f"the archive is {both} at once; send one at a time")
    if not kinds:
        raise InvalidInput(f"the file is an archive of other things; {EXPECTED}")
    return kinds[0]
