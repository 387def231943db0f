"""What a photo says of itself: where it was taken, how exactly, and when. Nothing is decoded.

The time is, in this order: the camera's with its own offset from UTC; the satellites' (UTC); the
camera's without an offset, read as China time. A photo without a position is still an incident, one
that is not placed; one without a time is a fault.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from data.photo import PIXELS_MAX
from data.readers.cell_values import CHINA
from data.readers.records import FileRecord, FileRecords, headers_of
from geo.crs import WGS84
from geo.errors import Fault, InvalidInput, TooLarge

_EXIF, _GPS = 0x8769, 0x8825
_TAKEN, _TAKEN_OFFSET, _CHANGED = 0x9003, 0x9011, 0x0132
_LAT_REF, _LAT, _LON_REF, _LON, _GPS_TIME, _DATUM, _GPS_DATE, _ERROR_M = 1, 2, 3, 4, 7, 18, 29, 31
_CAMERA: Final = re.compile(r"(\d{4})[:/-](\d{2})[:/-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})")


def read_photo(path: Path, form: str) -> FileRecords:
    """The one record of a photo in `form` (jpeg or heic). Raises InvalidInput, TooLarge."""
    if form == "heic":
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    Image.MAX_IMAGE_PIXELS = None  # counted below; nothing is decoded here
    record = FileRecord(1, {})
    try:
        with Image.open(path, formats=["HEIF"] if form == "heic" else ["JPEG", "MPO"]) as picture:
            width_px, height_px = picture.size
            exif = picture.getexif()
            gps: dict[int, Any] = dict(exif.get_ifd(_GPS))
            taken: dict[int, Any] = dict(exif.get_ifd(_EXIF))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, KeyError, TypeError,
            IndexError, OverflowError, RuntimeError, EOFError) as error:  # fmt: skip
        raise InvalidInput("the photo is damaged or incomplete") from error
    if width_px * height_px > PIXELS_MAX:
        raise TooLarge(
            f"the photo has {width_px} × {height_px} pixels;"
            f" {PIXELS_MAX // 1_000_000} million are taken"
        )
    record.place = _place(gps)
    error_m = _number(gps.get(_ERROR_M))
    if error_m is not None and record.place is not None and 0 < error_m <= 1e6:
        record.cells["accuracy_m"] = round(error_m, 2)
    when = _time(taken, gps)
    if when is None:
        reason = "the photo does not say when it was taken; report it by hand and attach the photo"
        record.faults.append(Fault(reason, 1, "DateTimeOriginal"))
    else:
        record.cells["occurred_at"] = when
    media = "image/heic" if form == "heic" else "image/jpeg"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    datum = re.sub(r"[^A-Z0-9]", "", str(gps.get(_DATUM, "")).upper())
    unread = ["GPSMapDatum"] if datum not in ("", "WGS84", "WGS1984", "CGCS2000") else []
    return FileRecords(
        form, [record], headers_of([record]), crs=WGS84, unread=unread, photo=media, digest=digest
    )


def _place(gps: dict[int, Any]) -> list[float] | None:
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "EW", 180)
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "NS", 90)
    if lon is None or lat is None or (lon == 0 and lat == 0):
        return None  # cameras that had no fix write zeros
    return [round(lon, 8), round(lat, 8)]


def _degrees(parts: Any, reference: Any, letters: str, most: float) -> float | None:
    mark = str(reference or "").strip("\0 ").upper()[:1]
    if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= 3 or mark not in letters:
        return None
    numbers = [_number(part) for part in parts]
    known = [number for number in numbers if number is not None and number >= 0]
    if not mark or len(known) < len(numbers):
        return None
    size = math.fsum(number / 60**power for power, number in enumerate(known))
    if size > most:
        return None
    return -size if mark == letters[1] else size


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _time(taken: dict[int, Any], gps: dict[int, Any]) -> str | None:
    camera = _CAMERA.match(str(taken.get(_TAKEN, "")).strip("\0 "))
    offset = _OFFSET.fullmatch(str(taken.get(_TAKEN_OFFSET, "")).strip("\0 "))
    at_camera = _moment([int(part) for part in camera.groups()], CHINA) if camera else None
    if at_camera is not None and offset:
        size = datetime.timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if size <= datetime.timedelta(hours=14):
            zone = datetime.timezone(-size if offset[1] == "-" else size)
            return at_camera.replace(tzinfo=zone).isoformat()
    by_satellite = _satellite_time(gps)
    found = by_satellite or at_camera
    return found.isoformat() if found else None


def _satellite_time(gps: dict[int, Any]) -> datetime.datetime | None:
    day = re.match(r"(\d{4})[:-](\d{2})[:-](\d{2})", str(gps.get(_GPS_DATE, "")).strip("\0 "))
    clock = gps.get(_GPS_TIME)
    if day is None or not isinstance(clock, tuple | list) or len(clock) != 3:
        return None
    numbers = [_number(part) for part in clock]
    hours = [int(number) for number in numbers if number is not None]
    if len(hours) < 3:
        return None
    return _moment([*(int(part) for part in day.groups()), *hours], datetime.UTC)


def _moment(parts: list[int], zone: datetime.tzinfo) -> datetime.datetime | None:
    try:
        return datetime.datetime(*parts, tzinfo=zone)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
