"""GeoJSON: each feature is a record, its properties the cells, nested ones whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Never

from data.readers.records import FileRecord, FileRecords, headers_of
from geo.crs import WGS84, parse_crs
from geo.errors import CrsError, Fault, InvalidInput, TooLarge


def read_geojson(path: Path, rows_max: int) -> FileRecords:
    """The features of a FeatureCollection, or one Feature.

    The system is that of an old-style `crs` member, else None: RFC 7946 says WGS 84, but the file
    itself has not said so. Raises InvalidInput for what is no JSON or no such object.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        document = json.loads(data, parse_constant=_refuse, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"the GeoJSON is not valid JSON at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidInput("the GeoJSON is not valid JSON: nested too deep") from None
    except UnicodeDecodeError:
        raise InvalidInput("the GeoJSON is not UTF-8 text") from None
    except ValueError:
        raise InvalidInput("the GeoJSON is not valid JSON: a number is too long") from None
    kind = document.get("type") if isinstance(document, dict) else None
    features = [document] if kind == "Feature" else document.get("features")
    if kind not in ("Feature", "FeatureCollection") or not isinstance(features, list):
        raise InvalidInput("the JSON is no GeoJSON FeatureCollection and no Feature")
    if len(features) > rows_max:
        raise TooLarge(f"the file has more than {rows_max} rows")
    if not features:
        raise InvalidInput("the GeoJSON holds no feature")
    records = [_record(row, feature) for row, feature in enumerate(features, start=1)]
    unread = ["bbox"] if "bbox" in document else []
    return FileRecords("geojson", records, headers_of(records), crs=_crs(document), unread=unread)


def _refuse(_: str) -> Never:
    raise InvalidInput("the GeoJSON is not valid JSON: it holds NaN or Infinity")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInput("the GeoJSON names a member of an object twice")
    return found


def _record(row: int, feature: Any) -> FileRecord:
    record = FileRecord(row, {})
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        record.faults.append(Fault("is no GeoJSON Feature", row))
        return record
    properties = feature.get("properties")
    if isinstance(properties, dict):
        record.cells = properties
    elif properties is not None:
        record.faults.append(Fault("must be an object", row, "properties"))
    if isinstance(feature.get("id"), str | int):
        record.cells.setdefault("incident_id", feature["id"])
    geometry = feature.get("geometry")
    if geometry is None:
        return record
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind != "Point":
        known = str(kind)[:30] if isinstance(kind, str) else "no geometry"
        reason = f"an incident is one point; this feature is {known}"
        record.faults.append(Fault(reason, row, "geometry"))
        return record
    numbers = geometry.get("coordinates")
    if numbers == []:
        return record
    if (
        not isinstance(numbers, list)
        or not 2 <= len(numbers) <= 4
        or not all(type(n) in (int, float) and abs(n) < 1e12 and math.isfinite(n) for n in numbers)
    ):
        reason = "must be two finite numbers, [longitude, latitude]"
        record.faults.append(Fault(reason, row, "geometry.coordinates"))
        return record
    record.place = [float(n) for n in numbers[:2]]
    return record


def _crs(document: dict[str, Any]) -> str | None:
    stated = document.get("crs")
    if stated is None:
        return None
    try:
        name = stated["properties"]["name"]
        if not isinstance(name, str):
            raise TypeError
    except (KeyError, TypeError):
        raise CrsError([Fault("must be a named system such as EPSG:4490", None, "crs")]) from None
    # Versions stand between the authority and the code: urn:ogc:def:crs:OGC:1.3:CRS84.
    return WGS84 if name.upper().endswith("CRS84") else parse_crs(name)
