"""What an attached file is, and the copy of a picture that is shown: no metadata, nothing to run.

The type is read from the first bytes, never from a name. A picture is decoded in a child process
with limits on memory and time, its pixels counted before; what is shown is encoded anew as JPEG, so
nothing of the sent bytes (metadata, a second format appended) reaches a reader's browser.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from geo.errors import Fault, InvalidInput, TooLarge, Unavailable

PIXELS_MAX = 50_000_000
DISPLAY_SIDE_PX = 1600
DISPLAY_TYPE = "image/jpeg"
PDF = "application/pdf"
CHILD_BYTES_MAX = 1 << 30
CHILD_SECONDS_MAX = 20

#: Media type → the only decoder it is given to.
DECODERS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/heic": "HEIF",
}
SUFFIXES = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/heic": "heic",
    PDF: "pdf",
}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True)
class DisplayCopy:
    """The copy that is shown, and the size of the original in pixels as it stands upright."""

    jpeg: bytes
    width_px: int
    height_px: int


def sniff(body: bytes) -> str:
    """The media type of a file by its first bytes. Raises InvalidInput for any not kept."""
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    if body[4:8] == b"ftyp" and body[8:12] in _HEIC_BRANDS:
        return "image/heic"
    if body.startswith(b"%PDF-"):
        return PDF
    raise InvalidInput([Fault("must be a JPEG, PNG, HEIC or WebP picture or a PDF", None, "file")])


def display_copy(path: Path, media_type: str) -> DisplayCopy:
    """The picture in `path` as a JPEG of at most 1600 pixels a side.

    Raises TooLarge over 50 megapixels, InvalidInput for a picture that cannot be decoded.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "data.photo", str(path), media_type],
            cwd=Path(__file__).resolve().parents[1],
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHILD_SECONDS_MAX * 2,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidInput([Fault("takes too long to decode", None, "file")]) from None
    except OSError:
        raise Unavailable("pictures cannot be decoded now; send it again later") from None
    head, _, jpeg = done.stdout.partition(b"\n")
    try:
        told = json.loads(head)
        width_px, height_px = int(told["width_px"]), int(told["height_px"])
    except (ValueError, KeyError, TypeError):
        raise InvalidInput([Fault("is a broken picture", None, "file")]) from None
    if told["too_large"]:
        reason = f"has {width_px} × {height_px} pixels; {PIXELS_MAX // 1_000_000} million are taken"
        raise TooLarge([Fault(reason, None, "file")])
    if done.returncode != 0 or not jpeg:
        raise InvalidInput([Fault("is a broken picture", None, "file")])
    return DisplayCopy(jpeg, width_px, height_px)


def _decode(path: str, media_type: str) -> None:
    """The child: one line of JSON, then the JPEG, to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (CHILD_SECONDS_MAX, CHILD_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES_MAX, CHILD_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # counted below, before anything is decoded
    if media_type == "image/heic":
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    picture: Image.Image = Image.open(path, formats=[DECODERS[media_type]])
    width_px, height_px = picture.size
    too_large = width_px * height_px > PIXELS_MAX
    if picture.getexif().get(0x0112, 1) in (5, 6, 7, 8):
        width_px, height_px = height_px, width_px
    told = {"width_px": width_px, "height_px": height_px, "too_large": too_large}
    out = sys.stdout.buffer
    out.write(json.dumps(told).encode() + b"\n")
    if too_large:
        return
    if media_type == "image/jpeg":
        picture.draft(None, (DISPLAY_SIDE_PX, DISPLAY_SIDE_PX))
    picture.load()
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    picture.thumbnail((DISPLAY_SIDE_PX, DISPLAY_SIDE_PX), reducing_gap=2.0)
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("RGBA", "LA", "PA"):
        upper = picture.convert("RGBA")
        picture = Image.new("RGB", upper.size, "white")
        picture.paste(upper, mask=upper.getchannel("A"))
    bare = Image.new("RGB", picture.size)  # a new picture carries no metadata along
    bare.paste(picture.convert("RGB"))
    bare.save(out, "JPEG", quality=82, optimize=False)


if __name__ == "__main__":
    _decode(*sys.argv[1:3])
