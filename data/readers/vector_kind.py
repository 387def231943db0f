"""Which kind of vector file a file is, found from its content, never from its name.

Apart from the reader (`vector.py`), which takes GDAL and frames along: whoever has a table in hand
learns here that it is no vector file and needs neither.
"""

from __future__ import annotations

import xml.parsers.expat
import zipfile
from pathlib import Path
from typing import Final

from geo.errors import InvalidInput, TooLarge

MAX_UNPACKED_BYTES: Final = 2 << 30
"""What a zipped Shapefile or KMZ may unpack to."""


def sniff(path: Path) -> str:
    """The kind of a vector file by its content: one of GeoJSON, GeoPackage, FlatGeobuf, Parquet,
    Shapefile, zipped Shapefile, KML, KMZ, GPX, GML. Raises InvalidInput for anything else."""
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip():
        raise InvalidInput("the file is empty")
    if head.startswith(b"SQLite format 3\0") and head[68:72] in (b"GPKG", b"GP10", b"GP11"):
        return "GeoPackage"
    if head.startswith(b"fgb"):
        return "FlatGeobuf"
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith(b"\x00\x00\x27\x0a"):
        return "Shapefile"
    if head.startswith(b"PK\x03\x04"):
        return _sniff_archive(path)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "GeoJSON"
    if text.startswith((b"<", b"\xff\xfe<", b"\xfe\xff\x00<")):
        return kind_of_xml(path)
    raise InvalidInput(
        "the file is none of GeoJSON, GeoPackage, FlatGeobuf, GeoParquet, Shapefile, zipped "
        "Shapefile, KML, KMZ, GPX, GML"
    )


def _sniff_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [part.filename for part in members(archive)]
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidInput("the archive is damaged or incomplete") from error
    if any(name.lower().endswith(".shp") for name in names):
        return "zipped Shapefile"
    if any(name.lower().endswith(".kml") for name in names):
        return "KMZ"
    raise InvalidInput("the archive holds neither a Shapefile nor a KML document")


def kind_of_xml(path: Path) -> str:
    """The kind of an XML file by its root element; a document type declaration is refused."""
    root: list[str] = []

    def start(name: str, _: dict[str, str]) -> None:
        if not root:
            root.append(name)

    def doctype(*_: object) -> None:
        raise InvalidInput("the XML file declares a document type; that is not accepted")

    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    try:
        with path.open("rb") as file:
            while not root and (block := file.read(65_536)):
                parser.Parse(block, False)
    except xml.parsers.expat.ExpatError as error:
        raise InvalidInput(f"the XML file is damaged: {error}") from error
    namespace, _, name = (root[0] if root else "").rpartition(" ")
    if name == "kml":
        return "KML"
    if name == "gpx":
        return "GPX"
    if name == "FeatureCollection" and ("opengis.net/" in namespace or "ogr" in namespace):
        return "GML"
    raise InvalidInput(f"an XML file with the root element {name[:40]!r} is none of KML, GPX, GML")


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive. Raises InvalidInput when encrypted, TooLarge beyond the limits."""
    parts = [part for part in archive.infolist() if not part.is_dir()]
    if any(part.flag_bits & 1 for part in parts):
        raise InvalidInput("the archive is encrypted")
    if sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES or len(parts) > 1000:
        raise TooLarge(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes or 1000 files")
    # Apple's archiver adds shadows of every file under this name.
    return [part for part in parts if not part.filename.startswith("__MACOSX/")]
