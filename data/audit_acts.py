"""What a write is called in the audit trail; every channel of `data.database.writing` is here.

The row names the batch and the SHA-256 of the bytes that were sent, so the chain also holds what
was sent: `check_chain` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Reports by machines, many a second: each batch of theirs is kept with its account, time and
#: bytes, and they shall wait for nothing. `demo` only marks where the demonstration began.
WITHOUT_ROW = frozenset({"status", "heartbeat", "cot", "demo"})

#: Channel → act, and the member of the detail or request that names what was acted upon.
_ACTS: Mapping[str, tuple[str, str, str]] = {
    "facilities": ("facilities.imported", "", ""),
    "divisions": ("divisions.imported", "", ""),
    "incident": ("incident.submitted", "incident", "incident_id"),
    "incident_edit": ("incident.edited", "incident", "incident_id"),
    "incident_file": ("incidents.imported", "", ""),
    "attachment": ("attachment.added", "incident", "incident_id"),
    "hotline": ("hotline.told", "order", "order_number"),
    "outage": ("outage.reported", "outage", "outage_id"),
    "return": ("return.received", "return", "return_id"),
    "plan_facts": ("facts.declared", "plan", "plan"),
}
#: Of details and requests only these are told: no member of them is free text.
_TOLD = frozenset(
    {"adcode", "plan", "version", "revision", "close_event", "created", "edited", "applied"}
    | {"retired", "attachment_id", "operator", "format", "partial", "distinct", "valid_from"}
    | {"valid_to", "rows", "accepted", "incidents", "kept"}
)


@dataclass(frozen=True, slots=True)
class Act:
    """What to record of a write."""

    name: str
    outcome: str
    subject: str | None
    detail: dict[str, Any]


def act_of(
    channel: str,
    kind: str,
    detail: Mapping[str, Any],
    request: Mapping[str, Any],
    batch_id: int,
    body_sha256: bytes,
) -> Act | None:
    """The act of a write about to be published; None when its channel leaves no row.

    Raises KeyError for a channel nobody has thought about.
    """
    if channel in WITHOUT_ROW:
        return None
    name, of, member = _ACTS[channel]
    said = {**request, **detail}
    if channel == "incident_edit" and "merge" in request:
        name = "incident.merged" if request["merge"] else "incident.unmerged"
    elif channel == "incident_edit" and "distinct" in request:
        name = "incident.distinct"
    elif channel == "facilities" and "retired" in detail:
        name = "facilities.retired"
    subject = f"{of}:{said[member]}" if member and member in said else None
    told = {key: said[key] for key in said if key in _TOLD}
    told |= {"batch": batch_id, "body_sha256": body_sha256.hex()}
    outcome = "refused" if kind == "incident_conflict" else "done"
    return Act(name, outcome, subject, told)
