"""What a run tried of the things whose number matters, in a line each at its end.

A test tells its numbers with pytest's `record_property(LINE, COUNTS)`, which reaches the end of the run
from whichever process it ran in. A test that fails is at least one violation of its line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

VIOLATIONS = "violations"
#: Line → what is counted in it, as it is printed.
LINES = {
    "matrix": ("cells tested", VIOLATIONS),
    "race": ("edits of one version at once", "taken", "refused (412)", VIOLATIONS),
    "hostile files": ("tried", VIOLATIONS),
    "short crash run": ("kills", "acknowledged", "lost", VIOLATIONS),
}
Record = Callable[[str, object], None]


def lines(reports: Iterable[Any]) -> list[str]:
    """The lines of what ran, of the reports of a run (`when`, `failed`, `user_properties`)."""
    sums: dict[str, Counter[str]] = {}
    for report in reports:
        if getattr(report, "when", None) != "call":
            continue
        for name, told in report.user_properties:
            if name in LINES and isinstance(told, Mapping):
                counted = sums.setdefault(name, Counter())
                counted.update(told)
                if report.failed and not told.get(VIOLATIONS):
                    counted[VIOLATIONS] += 1
    return [
        f"{name}: " + ", ".join(f"{sums[name][what]:,} {what}" for what in counted)
        for name, counted in LINES.items()
        if name in sums
    ]
