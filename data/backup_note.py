"""When this installation was last backed up, as its own folder remembers: `var/backup.json`.

Only times: where the backup lies is nobody's business who may read metrics. Restoring does not
bring it back, so that a restored installation counts as not backed up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

FILE = "backup.json"
#: The database with its files, and the files alone.
PARTS = ("database", "files")


def note_backup(var: Path, parts: Sequence[str], at: datetime) -> None:
    """Remember that these parts were saved as they were at a moment."""
    kept = {name: when.isoformat() for name, when in noted_backups(var).items()}
    kept |= dict.fromkeys(parts, at.astimezone(UTC).isoformat())
    draft = var / f".{FILE}.{os.getpid()}"
    draft.write_bytes(orjson.dumps(kept) + b"\n")
    draft.chmod(0o644)  # the service may run as another user than who saves it
    draft.replace(var / FILE)


def noted_backups(var: Path) -> dict[str, datetime]:
    """Part → when it was last saved; nothing for what never was, or what cannot be read."""
    try:
        said = orjson.loads((var / FILE).read_bytes())
        found = {name: datetime.fromisoformat(said[name]) for name in PARTS if name in said}
    except (OSError, ValueError, TypeError):
        return {}
    return {name: when for name, when in found.items() if when.tzinfo is not None}
