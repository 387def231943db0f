"""Vector files: GeoJSON, GeoPackage, FlatGeobuf, GeoParquet, Shapefile, KML, KMZ, GPX and GML.

The kind of a file is found from its content, never from its name, and handed to GDAL under the
suffix of that kind; a file that is none of them does not reach GDAL at all (see the package's
docstring for what is taken away from GDAL itself). Readers are plain functions of a path, so that
a caller can run them in a child process with limits.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import geopandas
import pandas as pd
import pyarrow
import pyarrow.parquet
import pyogrio

from data.readers import VECTOR_DRIVERS
from data.readers.shapefile import PARTS, table_encoding, unpack_member, unpack_shapefile
from data.readers.vector_kind import kind_of_xml, members, sniff
from geo.crs import name_of_crs, parse_crs, reconcile_crs
from geo.errors import CrsError, Fault, InvalidInput, TooLarge

_left_over = set(pyogrio.list_drivers()) - VECTOR_DRIVERS
if _left_over:
    raise ImportError(
        f"pyogrio was imported before data.readers could lock it down; GDAL still has {_left_over}"
    )

MAX_FEATURES: Final = 2_000_000

# Kind → suffix GDAL expects and the drivers that may claim the file.
_KINDS: Final = {
    "GeoJSON": (".geojson", {"GeoJSON"}),
    "GeoPackage": (".gpkg", {"GPKG"}),
    "FlatGeobuf": (".fgb", {"FlatGeobuf"}),
    "Shapefile": (".shp", {"ESRI Shapefile"}),
    "KML": (".kml", {"KML", "LIBKML"}),
    "GPX": (".gpx", {"GPX"}),
    "GML": (".gml", {"GML"}),
}
_GPX_LAYERS: Final = ("waypoints", "routes", "tracks")
_READ_ERRORS: Final = (
    RuntimeError,
    ValueError,
    OSError,
    KeyError,
    TypeError,
    pyarrow.ArrowException,
)


def read_vector(
    path: Path,
    layer: str | None = None,
    *,
    crs: str | None = None,
    max_features: int = MAX_FEATURES,
) -> Any:
    """The features of a file as a GeoDataFrame, in the file's own coordinates, numbered from 0.

    `crs`: what the uploader declares. `frame.attrs["crs"]` is the canonical name of the system the
    coordinates are in, for `geo.crs.frame_to_wgs84`; `frame.crs` says the same where a code for it
    exists (none does for GCJ-02 and BD-09, and it is None then). `attrs["format"]` is the kind.

    A file of several layers needs `layer`, except KML and KMZ, whose folders are read one after
    another, and GPX, of which waypoints, routes and tracks are (column `layer` says which).
    Raises CrsError when neither file nor uploader says the system, or they disagree; TooLarge;
    InvalidInput for an unknown, unreadable or empty file or layer.
    """
    kind = sniff(path)
    if kind == "Parquet":
        frame = _read_parquet(path, max_features)
    else:
        with _prepared(path, kind) as (ready, plain):
            frame = _read_ogr(ready, plain, layer, max_features)
    if len(frame) == 0:
        raise InvalidInput(f"the {kind} file contains no feature")
    stated = _stated_crs(frame, kind, path, crs)
    name = reconcile_crs(stated, crs)
    frame = frame.reset_index(drop=True)
    code = {"WGS84": "EPSG:4326", "CGCS2000": "EPSG:4490", "GCJ-02": None, "BD-09": None}
    frame = frame.set_crs(code.get(name, name), allow_override=True)
    frame.attrs.update(crs=name, format=kind)
    return frame


# --- reading --------------------------------------------------------------------------------------


@contextmanager
def _prepared(path: Path, kind: str) -> Iterator[tuple[Path, str]]:
    """The file alone in a folder of its own, under the suffix GDAL expects; what kind it then is.

    Alone, so that no driver finds anything beside it, and nothing is written beside the original.
    """
    with tempfile.TemporaryDirectory(prefix="yutu-vector-") as folder:
        if kind == "zipped Shapefile":
            yield _unpack_shapefile(path, Path(folder)), "Shapefile"
        elif kind == "KMZ":
            yield _unpack_kml(path, Path(folder)), "KML"
        else:
            ready = Path(folder) / f"file{_KINDS[kind][0]}"
            ready.symlink_to(path.resolve())
            if kind == "Shapefile":
                for beside in path.parent.iterdir():
                    suffix = beside.suffix.lower()
                    if beside.stem == path.stem and suffix in PARTS[1:]:
                        (Path(folder) / f"file{suffix}").symlink_to(beside.resolve())
            yield ready, kind


def _unpack_shapefile(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        return unpack_shapefile(archive, members(archive), folder)


def _unpack_kml(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        documents = [part for part in members(archive) if part.filename.lower().endswith(".kml")]
        # The first one in the archive is the main document; it is called doc.kml by custom.
        main = next((p for p in documents if p.filename.lower() == "doc.kml"), documents[0])
        unpack_member(archive, main, folder / "file.kml")
    if kind_of_xml(folder / "file.kml") != "KML":
        raise InvalidInput("the document inside the KMZ is no KML")
    return folder / "file.kml"


def _read_ogr(path: Path, kind: str, layer: str | None, max_features: int) -> Any:
    try:
        driver = pyogrio.read_info(path, layer=0)["driver"]
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        spatial = [str(name) for name, shape in pyogrio.list_layers(path) if shape is not None]
    except _READ_ERRORS as error:
        raise InvalidInput(f"the {kind} file is damaged, incomplete or empty") from error
    if driver not in _KINDS[kind][1]:
        raise InvalidInput(f"the file looks like {kind} but would be read as {driver}")
    if layer is not None:
        if layer not in layers:
            raise InvalidInput([Fault(f"no layer {layer[:60]!r}; there are {_list(layers)}")])
        wanted = [layer]
    elif kind == "GPX":
        wanted = [name for name in _GPX_LAYERS if name in layers]
    elif kind == "KML" or len(spatial) == 1:
        wanted = spatial
    elif not spatial:
        raise InvalidInput(f"the {kind} file has no layer with geometries")
    else:
        raise InvalidInput([Fault(f"the file has several layers; name one of {_list(spatial)}")])
    encoding = table_encoding(path) if kind == "Shapefile" else None
    frames = []
    left = max_features
    for name in wanted:
        try:
            # One more than allowed tells a file that is too long from one that just fits.
            part = pyogrio.read_dataframe(
                path, layer=name, max_features=left + 1, encoding=encoding, datetime_as_string=True
            )
        except _READ_ERRORS as error:
            raise InvalidInput(f"the {kind} file cannot be read: {_reason(error)}") from error
        if not isinstance(part, geopandas.GeoDataFrame):
            raise InvalidInput([Fault(f"layer {name[:60]!r} has no geometries")])
        left -= len(part)
        if left < 0:
            raise TooLarge(f"the file has more than {max_features} features")
        if len(part) and len(wanted) > 1:
            part["layer"] = name
        if len(part):
            frames.append(part)
    if not frames:
        return geopandas.GeoDataFrame(geometry=[], crs=None)
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _read_parquet(path: Path, max_features: int) -> Any:
    try:
        meta = pyarrow.parquet.read_metadata(path)
        if meta.num_rows > max_features:
            raise TooLarge(f"the file has {meta.num_rows} features, more than {max_features}")
        if b"geo" not in (meta.metadata or {}):
            raise InvalidInput("the Parquet file has no geometry (it is no GeoParquet)")
        return geopandas.read_parquet(path)
    except _READ_ERRORS as error:
        raise InvalidInput("the Parquet file is damaged or incomplete") from error


def _stated_crs(frame: Any, kind: str, path: Path, declared: str | None) -> str | None:
    """What the file itself states, None if nothing.

    GDAL labels every GeoJSON without a `crs` member EPSG:4326 (RFC 7946). That label is not the
    file's own word, so a declared projected system is believed against it.
    """
    declared = declared if declared and declared.strip() else None
    if frame.crs is None:
        if declared is None:
            raise CrsError(
                [Fault(f"the {kind} file states no coordinate system; declare it", None, "crs")]
            )
        return None
    if (
        kind == "GeoJSON"
        and declared is not None
        and parse_crs(declared).startswith("EPSG:")
        and not _has_crs_member(path)
    ):
        return None
    return name_of_crs(frame.crs)


def _has_crs_member(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("crs") is not None


def _list(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:20])


def _reason(error: BaseException) -> str:
    """GDAL's message, without the path of our temporary folder."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split("yutu-vector-")[0][:200]
