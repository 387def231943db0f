"""Attached files: what is kept, what is refused, and what lies on disk before a row says so."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from PIL import Image
from pillow_heif import from_pillow
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from data.accounts import Account
from data.attachments import attached_file, list_attachments, store_attachment
from data.blobs import BlobFolder
from data.database import app_engine, reading
from data.incident_submission import store_incident
from data.incidents import set_reader
from data.photo import display_copy, sniff
from data.rulepacks import load_packs
from geo.errors import Conflict, InvalidInput, NotAllowed, NotFound, TooLarge, TooMany, Unavailable
from tests.feeds import (
    COMMANDER,
    FIELD,
    FIELD_COLLEAGUE,
    FIELD_OTHER,
    INSIDE,
    VIEWER,
    YUZHONG,
    ago,
)


def picture(kind: str = "JPEG", size: tuple[int, int] = (3000, 2000), mode: str = "RGB") -> bytes:
    image, out = Image.new(mode, size, 90 if mode in "LP" else "red"), io.BytesIO()
    if kind == "HEIF":
        from_pillow(image).save(out)
        return out.getvalue()
    more = {}
    if kind == "JPEG":
        exif = Image.Exif()
        exif[0x010F] = "CANARY-MAKER"
        exif[0x0112] = 6
        exif.get_ifd(0x8825)[1] = "N"
        more = {"exif": exif}
    image.save(out, kind, **more)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header alone claims so many pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [head, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks
    )


HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (picture("JPEG", (40, 30)), "image/jpeg"),
        (picture("PNG", (40, 30)), "image/png"),
        (picture("WEBP", (40, 30)), "image/webp"),
        (picture("HEIF", (64, 48)), "image/heic"),
        (b"%PDF-1.7\n", "application/pdf"),
    ],
)
def test_a_type_is_read_from_the_first_bytes(body: bytes, media_type: str) -> None:
    assert sniff(body) == media_type


@pytest.mark.parametrize("body", [b"", b"\xff\xd8", HTML, SVG, b"GIF89a", b"PK\3\4", b"\0" * 64])
def test_other_types_are_refused_whatever_their_name(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="must be a JPEG"):
        sniff(body)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"),
     ("PNG", "1"), ("PNG", "I;16"), ("WEBP", "RGB"), ("HEIF", "RGB")],
)  # fmt: skip
def test_every_kind_of_picture_is_shown_as_a_small_bare_jpeg(
    tmp_path: Path, kind: str, mode: str
) -> None:
    image = Image.new(mode, (2000, 1000))
    out = io.BytesIO()
    if kind == "HEIF":
        from_pillow(image).save(out)
    else:
        image.save(out, kind)
    path = tmp_path / "photo"
    path.write_bytes(out.getvalue())
    shown = display_copy(path, sniff(out.getvalue()))
    assert (shown.width_px, shown.height_px) == (2000, 1000)
    with Image.open(io.BytesIO(shown.jpeg)) as read:
        assert (read.format, read.size) == ("JPEG", (1600, 800))
        assert not read.getexif()


def test_the_copy_stands_upright_and_carries_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(picture() + HTML)  # and a page appended: a polyglot
    shown = display_copy(path, "image/jpeg")
    assert (shown.width_px, shown.height_px) == (2000, 3000)
    with Image.open(io.BytesIO(shown.jpeg)) as read:
        assert read.size[0] < read.size[1] <= 1600
        assert not read.getexif()
    assert b"CANARY" not in shown.jpeg
    assert b"script" not in shown.jpeg


@pytest.mark.parametrize("size", [(30_000, 30_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_picture_of_too_many_pixels_is_refused_before_decoding(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(png_header(*size))
    with pytest.raises((TooLarge, InvalidInput), match=r"pixels|broken"):
        display_copy(path, "image/png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_cut_or_disguised_picture_is_refused(tmp_path: Path, kind: str) -> None:
    whole = picture(kind, (640, 480))
    path = tmp_path / "photo"
    for body in (whole[: len(whole) // 2], whole[:16], whole[:12] + HTML, whole[:12] + SVG):
        path.write_bytes(body)
        with pytest.raises(InvalidInput, match="broken"):
            display_copy(path, sniff(whole))


# --- stored -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(shared_divided_url: str) -> Iterator[Engine]:
    engine = app_engine(shared_divided_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> BlobFolder:
    return BlobFolder(tmp_path_factory.mktemp("var") / "attachments")


@pytest.fixture
def incident_id(app: Engine) -> UUID:
    made = uuid4()
    body = {
        "incident_id": str(made),
        "plan": "special-equipment-2023",
        "kind": "crane",
        "occurred_at": ago(minutes=5),
        "position": list(INSIDE[YUZHONG]),
    }
    store_incident(app, body, body=b"{}", account=FIELD, packs=load_packs())
    return made


Attach = Callable[..., dict[str, object]]


def attach(
    app: Engine,
    blobs: BlobFolder,
    incident_id: UUID,
    body: bytes,
    attachment_id: UUID | None = None,
    account: Account = FIELD,
) -> tuple[str, dict[str, object]]:
    stored = store_attachment(
        app, blobs, incident_id, attachment_id or uuid4(), body,
        file_name="../现场\n.jpg", account=account,
    )  # fmt: skip
    return stored.status, stored.json


def test_a_photo_is_kept_once_and_another_file_under_its_id_is_refused(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    body, made = picture(), uuid4()
    status, told = attach(app, blobs, incident_id, body, made)
    assert (status, told["media_type"], told["bytes"]) == ("created", "image/jpeg", len(body))
    assert told["file_name"] == "现场.jpg"
    assert attach(app, blobs, incident_id, body, made) == ("identical", told)
    with pytest.raises(Conflict, match="another file"):
        attach(app, blobs, incident_id, picture("PNG"), made)
    with pytest.raises(NotFound):
        attach(app, blobs, incident_id, body, made, FIELD_OTHER)
    assert [one["attachment_id"] for one in list_attachments(app, incident_id, FIELD)] == [
        str(made)
    ]
    original = attached_file(app, blobs, incident_id, made, FIELD, original=True)
    assert original.body == body
    shown = attached_file(app, blobs, incident_id, made, VIEWER, original=False)
    assert shown.media_type == "image/jpeg"
    assert b"CANARY" not in shown.body


def test_an_id_taken_out_of_sight_is_refused_without_detail(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    made, own = uuid4(), uuid4()
    attach(app, blobs, incident_id, picture(), made)
    body = {
        "incident_id": str(own),
        "plan": "special-equipment-2023",
        "kind": "crane",
        "occurred_at": ago(minutes=5),
        "position": [106.40, 29.62],
    }
    store_incident(app, body, body=b"{}", account=FIELD_OTHER, packs=load_packs())
    with pytest.raises(Conflict, match="taken") as error:
        attach(app, blobs, own, picture(), made, FIELD_OTHER)
    assert str(incident_id) not in str(error.value)


def test_originals_are_for_commanders_and_the_sender(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    made = uuid4()
    attach(app, blobs, incident_id, picture(), made)
    for account in (FIELD, COMMANDER):
        assert attached_file(app, blobs, incident_id, made, account, original=True).body
    for account in (VIEWER, FIELD_COLLEAGUE):
        with pytest.raises(NotAllowed):
            attached_file(app, blobs, incident_id, made, account, original=True)
        [told] = list_attachments(app, incident_id, account)
        assert not set(told) & {"original", "file_name", "account", "sha256"}
    for original in (True, False):
        with pytest.raises(NotFound):
            attached_file(app, blobs, incident_id, made, FIELD_OTHER, original=original)
    with pytest.raises(NotFound):
        list_attachments(app, incident_id, FIELD_OTHER)


def test_row_level_security_hides_other_districts_attachments(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    attach(app, blobs, incident_id, picture())
    count = text("SELECT count(*) FROM attachment WHERE incident_id = :id")
    seen = []
    for account in (FIELD, FIELD_COLLEAGUE, FIELD_OTHER):
        with reading(app, account.scope) as connection:
            set_reader(connection, account)
            seen.append(connection.execute(count, {"id": incident_id}).scalar_one())
    assert seen == [1, 1, 0]
    with app.connect() as connection, pytest.raises(ProgrammingError, match="permission"):
        connection.execute(text("UPDATE attachment SET account = 'x'"))


def test_a_document_is_kept_for_download_only(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    made = uuid4()
    _, told = attach(app, blobs, incident_id, b"%PDF-1.7\n", made)
    assert (told["media_type"], told["display"]) == ("application/pdf", None)
    with pytest.raises(NotFound, match="document"):
        attached_file(app, blobs, incident_id, made, COMMANDER, original=False)


def test_a_damaged_or_lost_file_is_never_served(
    app: Engine, blobs: BlobFolder, incident_id: UUID
) -> None:
    made, body = uuid4(), picture("PNG", (50, 51))
    _, told = attach(app, blobs, incident_id, body, made)
    path = blobs.path(bytes.fromhex(str(told["sha256"])))
    path.write_bytes(body[:-1] + b"!")
    with pytest.raises(Unavailable, match="damaged"):
        attached_file(app, blobs, incident_id, made, COMMANDER, original=True)
    path.unlink()
    with pytest.raises(Unavailable):
        attached_file(app, blobs, incident_id, made, COMMANDER, original=True)
    assert blobs.put(body) == bytes.fromhex(str(told["sha256"])), "sent again, it is whole again"
    assert attached_file(app, blobs, incident_id, made, COMMANDER, original=True).body == body


def test_no_row_is_committed_when_the_disk_refuses_the_file(
    app: Engine, incident_id: UUID, tmp_path: Path
) -> None:
    (tmp_path / "attachments").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        attach(app, BlobFolder(tmp_path / "attachments"), incident_id, picture())
    assert list_attachments(app, incident_id, FIELD) == []


def test_the_file_and_its_folder_are_flushed_before_the_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = BlobFolder(tmp_path / "attachments")
    path = folder.path(folder.put(b"bytes"))
    assert [Path(one).parent == path.parent for one in flushed[-2:]] == [True, False]
    assert flushed[-1] == str(path.parent)
    assert {str(tmp_path), str(tmp_path / "attachments")} <= set(flushed)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_account_has_its_share_of_a_day_and_no_more(
    app: Engine, blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch, incident_id: UUID
) -> None:
    """Also for files sent at once; what was refused left nothing, and others have theirs."""
    monkeypatch.setenv("YUTU_ATTACHMENT_MIB_PER_DAY", "1")
    bodies = [b"%PDF-1.7\n" + bytes([i]) * 300_000 for i in range(6)]

    def send(body: bytes) -> str:
        try:
            return store_attachment(
                app,
                blobs,
                incident_id,
                uuid4(),
                body,
                file_name="a.pdf",
                account=FIELD_COLLEAGUE,
            ).status
        except TooMany:
            return "too many"

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(send, bodies))
    assert statuses == ["created"] * 3 + ["too many"] * 3
    with reading(app) as connection:
        assert (
            connection.execute(
                text("SELECT count(*) FROM attachment WHERE incident_id = :id"), {"id": incident_id}
            ).scalar_one()
            == 3
        )
        count = "SELECT count(*) FROM batch WHERE account = :a AND channel = 'attachment'"
        key = {"a": FIELD_COLLEAGUE.username}
        assert connection.execute(text(count), key).scalar_one() == 3
    store_attachment(
        app, blobs, incident_id, uuid4(), bodies[0], file_name="a.pdf", account=COMMANDER
    )
    monkeypatch.setenv("YUTU_ATTACHMENT_MIB_PER_DAY", "2")
    assert send(bodies[5]) == "created"
