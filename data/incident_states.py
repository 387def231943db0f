"""The life of an incident: which state may follow which, and what its facts set going.

docs/meanings.md, "Incidents". `duplicate` is entered by merging and left by undoing that, so that a
record is never put aside without saying for which other one (`data.incident_merge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from geo.errors import Fault, InvalidInput

NEXT_STATES: Mapping[str, tuple[str, ...]] = {
    "reported": ("verified", "active", "resolved", "rejected"),
    "verified": ("active", "resolved", "rejected"),
    "active": ("verified", "resolved", "rejected"),
    "resolved": ("active",),
    "rejected": ("reported",),
    "duplicate": (),
}

CASUALTIES = ("deaths", "serious_injuries")
#: plan → clause on casualties that change after the accident: for how long, and told within what.
#: Special equipment 4.1.3; the other plans grade no casualties.
CASUALTY_CLAUSES: Mapping[str, tuple[str, timedelta, timedelta]] = {
    "special-equipment-2023": ("4.1.3", timedelta(days=30), timedelta(hours=24))
}
_CHANGED = (
    "伤亡人数有变化，应在 24 小时内补报",
    "casualties have changed; they are to be reported again within 24 hours",
)


def check_transition(before: str, after: str) -> None:
    """Raises InvalidInput for a state that may not follow."""
    if after == before or after in NEXT_STATES[before]:
        return
    if after == "duplicate":
        reason = "is entered by merging: POST …/merge says into which incident"
    elif before == "duplicate":
        reason = "it is merged into another incident; POST …/unmerge restores it first"
    else:
        allowed = ", ".join(NEXT_STATES[before])
        reason = f"may not follow {before}; allowed: {allowed}"
    raise InvalidInput([Fault(reason, None, "state")])


def changed_facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{fact: {"from", "to"}} of those that differ; absent and null are the same."""
    return {
        name: {"from": before.get(name), "to": after.get(name)}
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name)
    }


def casualty_notice(
    plan: str,
    occurred_at: datetime,
    changed_at: datetime,
    changed: Mapping[str, Any],
    lang: str,
) -> dict[str, Any] | None:
    """The reporting clock that a change of casualties starts; None where the plan has none.

    It counts within 30 days of the accident, that instant included, and runs from the change.
    """
    clause = CASUALTY_CLAUSES.get(plan)
    if clause is None or not any(name in changed for name in CASUALTIES):
        return None
    number, lasts, within = clause
    if changed_at - occurred_at > lasts:
        return None
    return {
        "code": "casualties_changed",
        "clause": number,
        "text": _CHANGED[lang == "en"],
        "changed_at": changed_at.isoformat(),
        "due_at": (changed_at + within).isoformat(),
    }
