"""Photos and documents of an incident: stored once per id, seen by whoever sees the incident.

The files lie in a `BlobFolder`, the original and the copy that is shown; both are on disk before
the row is committed. Originals, which carry metadata, are for commanders, administrators and
whoever sent them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import Field
from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.blobs import BlobFolder
from data.database import Write, reading, writing
from data.incidents import READS_REPORTERS, set_reader
from data.photo import DECODERS, DISPLAY_TYPE, SUFFIXES, DisplayCopy, display_copy, sniff
from data.scratch import scratch_folder
from data.settings import Settings
from geo.errors import Conflict, Fault, InvalidInput, NotAllowed, NotFound, TooLarge, TooMany

FILE_BYTES_MAX = 30 * 2**20
NAME_CHARACTERS_MAX = 200
FOLDER = "attachments"
QUOTA_RETRY_AFTER_S = 3600

_COLUMNS = (
    "a.attachment_id, a.incident_id, a.account, a.file_name, a.media_type, a.sha256, a.bytes,"
    " a.width_px, a.height_px, a.display_sha256, b.opened_at"
)
_FROM = "attachment a JOIN batch b ON b.id = a.batch_id"


class AttachmentSettings(Settings):
    """`attachment_mib_per_day`: what one account may send in files in 24 hours, in MiB."""

    attachment_mib_per_day: int = Field(2_048, ge=1, le=1_048_576)


@dataclass(frozen=True)
class StoredAttachment:
    """What a submission answers."""

    status: Literal["created", "identical"]
    json: dict[str, Any]


@dataclass(frozen=True)
class AttachedFile:
    """Bytes to send, under a type that no browser runs."""

    body: bytes
    media_type: str
    name: str


@dataclass(frozen=True)
class ReadFile:
    """A file that may be kept: its type by content, and for a picture the copy that is shown."""

    body: bytes
    media_type: str
    shown: DisplayCopy | None

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def keep(self, blobs: BlobFolder) -> None:
        """Put both on disk; durable on return."""
        blobs.put(self.body)
        if self.shown is not None:
            blobs.put(self.shown.jpeg)


def read_file(body: bytes) -> ReadFile:
    """Decode a file that is sent. Raises TooLarge, and InvalidInput for a type that is not kept."""
    if len(body) > FILE_BYTES_MAX:
        reason = f"is larger than {FILE_BYTES_MAX // 2**20} MiB"
        raise TooLarge([Fault(reason, None, "file")])
    media_type = sniff(body)
    if media_type not in DECODERS:
        return ReadFile(body, media_type, None)
    with scratch_folder("photo") as folder:
        path = folder / "photo"
        path.write_bytes(body)
        return ReadFile(body, media_type, display_copy(path, media_type))


def insert_attachment(
    write: Write,
    incident_id: UUID,
    attachment_id: UUID,
    file: ReadFile,
    *,
    file_name: str,
    account: Account,
) -> bool:
    """Whether the attachment is new. Its file must be kept already.

    Raises TooMany when the account sent more than its day's share.
    """
    _require_share(write.connection, account, len(file.body))
    shown = file.shown
    added = write.connection.execute(
        text(
            "INSERT INTO attachment (attachment_id, incident_id, batch_id, account, file_name,"
            " media_type, sha256, bytes, width_px, height_px, display_sha256) VALUES (:id,"
            " :incident, :batch, :account, :name, :type, :sha, :bytes, :width, :height,"
            " :display) ON CONFLICT (attachment_id) DO NOTHING"
        ),
        {
            "id": attachment_id,
            "incident": incident_id,
            "batch": write.batch_id,
            "account": account.username,
            "name": _printable(file_name),
            "type": file.media_type,
            "sha": file.sha256,
            "bytes": len(file.body),
            "width": None if shown is None else shown.width_px,
            "height": None if shown is None else shown.height_px,
            "display": None if shown is None else hashlib.sha256(shown.jpeg).digest(),
        },
    )
    return added.rowcount == 1


def store_attachment(
    engine: Engine,
    blobs: BlobFolder,
    incident_id: UUID,
    attachment_id: UUID,
    body: bytes,
    *,
    file_name: str,
    account: Account,
) -> StoredAttachment:
    """Keep a file with an incident; durable on return, the same again changes nothing.

    Raises NotFound for an incident the account cannot see, Conflict when the id holds another file
    or belongs to what it cannot see, TooLarge, and InvalidInput for a type that is not kept.
    """
    if len(body) > FILE_BYTES_MAX:
        reason = f"is larger than {FILE_BYTES_MAX // 2**20} MiB"
        raise TooLarge([Fault(reason, None, "file")])
    digest = hashlib.sha256(body).digest()
    with reading(engine, account.scope) as connection:
        set_reader(connection, account)
        _require_incident(connection, incident_id)
    # an earlier submission of the same file needs no second decoding
    before = _find(engine, attachment_id)
    if before is not None:
        return _same(before, incident_id, digest, account)
    file = read_file(body)
    file.keep(blobs)
    told = {
        "attachment_id": str(attachment_id),
        "incident_id": str(incident_id),
        "sha256": digest.hex(),
        "bytes": len(body),
    }
    with writing(
        engine, channel="attachment", account=account.username, body=orjson.dumps(told)
    ) as write:
        added = insert_attachment(
            write, incident_id, attachment_id, file, file_name=file_name, account=account
        )
        if added:
            write.kind = "attachment"
            write.detail = {"incident_id": str(incident_id), "attachment_id": str(attachment_id)}
    stored = _find(engine, attachment_id)
    if stored is None:
        raise RuntimeError("an attachment vanished between two transactions")
    if not added:
        return _same(stored, incident_id, digest, account)
    return StoredAttachment("created", _described(stored, account))


def list_attachments(engine: Engine, incident_id: UUID, account: Account) -> list[dict[str, Any]]:
    """What is attached to an incident, oldest first. Raises NotFound, also out of scope."""
    with reading(engine, account.scope, snapshot=True) as connection:
        set_reader(connection, account)
        _require_incident(connection, incident_id)
        rows = connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM {_FROM} WHERE a.incident_id = :id"
                " ORDER BY a.batch_id, a.attachment_id"
            ),
            {"id": incident_id},
        ).all()
    return [_described(row, account) for row in rows]


def attached_file(
    engine: Engine,
    blobs: BlobFolder,
    incident_id: UUID,
    attachment_id: UUID,
    account: Account,
    *,
    original: bool,
) -> AttachedFile:
    """The copy for display, or the original as it was sent.

    Raises NotFound out of scope and for a document, which has no copy; NotAllowed for an original
    the account may not have.
    """
    with reading(engine, account.scope) as connection:
        set_reader(connection, account)
        row = connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM {_FROM}"
                " WHERE a.attachment_id = :id AND a.incident_id = :incident"
            ),
            {"id": attachment_id, "incident": incident_id},
        ).one_or_none()
    if row is None:
        raise NotFound("no such attachment")
    if original:
        if not _may_have_original(row, account):
            raise NotAllowed("the original is for commanders and whoever sent it")
        name = f"{attachment_id}.{SUFFIXES[row.media_type]}"
        return AttachedFile(blobs.get(bytes(row.sha256)), row.media_type, name)
    if row.display_sha256 is None:
        raise NotFound("a document has no copy to show; read the original")
    body = blobs.get(bytes(row.display_sha256))
    return AttachedFile(body, DISPLAY_TYPE, f"{attachment_id}.jpg")


def _require_share(connection: Connection, account: Account, size: int) -> None:
    """Of what the account sent in the last 24 hours; its submissions wait for each other here."""
    share = AttachmentSettings.load().attachment_mib_per_day * 2**20
    key = {"account": account.username, "lock": f"attachments of {account.username}"}
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), key)
    sent = connection.execute(
        text(
            f"SELECT coalesce(sum(a.bytes), 0) FROM {_FROM}"
            " WHERE a.account = :account AND b.opened_at > now() - interval '24 hours'"
        ),
        key,
    ).scalar_one()
    if sent + size > share:
        raise TooMany(
            f"more than {share // 2**20} MiB of files in 24 hours; send it again later",
            QUOTA_RETRY_AFTER_S,
        )


def _require_incident(connection: Connection, incident_id: UUID) -> None:
    found = connection.execute(
        text("SELECT 1 FROM incident WHERE incident_id = :id"), {"id": incident_id}
    ).one_or_none()
    if found is None:
        raise NotFound("no such incident")


def _find(engine: Engine, attachment_id: UUID) -> Any:
    """The row whoever it belongs to, with its incident's place; for deciding on an id only."""
    with reading(engine) as connection:
        return connection.execute(
            text(
                f"SELECT {_COLUMNS}, i.adcode, i.account AS reported_by FROM {_FROM}"
                " JOIN incident i ON i.incident_id = a.incident_id WHERE a.attachment_id = :id"
            ),
            {"id": attachment_id},
        ).one_or_none()


def _same(row: Any, incident_id: UUID, digest: bytes, account: Account) -> StoredAttachment:
    if not account.sees(row.adcode) and account.username not in (row.account, row.reported_by):
        raise Conflict("this attachment_id is taken")
    if row.incident_id != incident_id or bytes(row.sha256) != digest:
        raise Conflict("this attachment_id is stored with another file")
    return StoredAttachment("identical", _described(row, account))


def _may_have_original(row: Any, account: Account) -> bool:
    return account.role in READS_REPORTERS or row.account == account.username


def _described(row: Any, account: Account) -> dict[str, Any]:
    place = f"/v1/incidents/{row.incident_id}/attachments/{row.attachment_id}"
    told = {
        "attachment_id": str(row.attachment_id),
        "incident_id": str(row.incident_id),
        "media_type": row.media_type,
        "bytes": row.bytes,
        "width_px": row.width_px,
        "height_px": row.height_px,
        "received_at": row.opened_at.isoformat(),
        "display": None if row.display_sha256 is None else place,
    }
    if _may_have_original(row, account):  # a name may tell whose telephone it was
        told |= {
            "file_name": row.file_name,
            "sha256": bytes(row.sha256).hex(),
            "account": row.account,
            "original": f"{place}/original",
        }
    return told


def _printable(name: str) -> str:
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(one for one in last if one.isprintable())
    return kept.encode("utf-8", "ignore").decode()[:NAME_CHARACTERS_MAX]


def read_attachment_id(given: object) -> UUID:
    """The client's id of a file. Raises InvalidInput."""
    try:
        if type(given) is not str or len(given) != 36:
            raise ValueError
        return UUID(given)
    except ValueError:
        raise InvalidInput(
            [Fault("must be a UUID, made once for each file", None, "attachment_id")]
        ) from None
