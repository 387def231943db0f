"""One reader per file format: a path in, a checked frame out.

GDAL decides once, when pyogrio is first imported, which of its drivers exist. Most of them have no
business here, and some open other files, shared libraries or the network because a file says so (a
VRT with any extension can name `/etc/passwd`). They are taken away before that import can happen:
only modules of this package import pyogrio, and Python runs this file before any of them.
`vector.py` then verifies that nothing but the formats it knows is left and refuses to load
otherwise.
"""

from __future__ import annotations

import os
from typing import Final

# What `vector.py` reads, and the in-memory dataset pyogrio builds frames from.
VECTOR_DRIVERS: Final = frozenset(
    {"GeoJSON", "GPKG", "FlatGeobuf", "ESRI Shapefile", "KML", "LIBKML", "GPX", "GML", "MEM"}
)

# Reach outside the file: never wanted, in any version of GDAL.
_REACHING_OUT: Final = (
    "OGR_VRT", "WFS", "OAPIF", "HTTP", "GDALG", "CSW", "EEDA", "Elasticsearch", "Carto",
    "AmigoCloud", "PLSCENES", "NGW", "ADBC", "GPSBabel", "OGCAPI", "MVT", "PMTiles", "AIVector",
)  # fmt: skip
# Formats of no use here that would only widen what a hostile file can reach.
_UNUSED: Final = (
    "AVCBin", "AVCE00", "CSV", "DGN", "DXF", "EDIGEO", "ESRIJSON", "GTFS", "GeoJSONSeq", "GeoRSS",
    "Idrisi", "JML", "JSONFG", "LVBAG", "MBTiles", "MapInfo File", "MapML", "MiraMonVector", "ODS",
    "OGR_GMT", "OGR_PDS", "OSM", "OpenFileGDB", "PCIDSK", "PDF", "PDS4", "PGDUMP", "S57", "SQLite",
    "SXF", "Selafin", "TopoJSON", "VDV", "VFK", "VICAR", "WAsP", "XLSX",
)  # fmt: skip

os.environ.update(
    {
        "OGR_SKIP": ",".join(_REACHING_OUT + _UNUSED),
        "GDAL_SKIP": "VRT",
        # No schema, style or tile a file mentions is ever fetched.
        "GML_DOWNLOAD_SCHEMA": "NO",
        "GML_SKIP_RESOLVE_ELEMS": "ALL",
        "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
        "GDAL_HTTP_PROXY": "127.0.0.1:9",
        "GDAL_HTTP_MAX_RETRY": "0",
    }
)
