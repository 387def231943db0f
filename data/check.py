"""One question put to the database: how many were looked at, how many are wrong, and examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from data.recompute import NEVER
from data.tables import MEASURES

EXAMPLES = 5

_MEASURES = list(MEASURES)


@dataclass
class Check:
    """One question: how many were looked at, how many are wrong, and some of those."""

    name: str
    question: str
    looked_at: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def found(self, example: str) -> None:
        """Note one that is wrong."""
        self.wrong += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


def wrong_rows(check: Check, connection: Connection, wrong: str, looked_at: str) -> Check:
    """`wrong` is SQL giving one text per thing wrong, `looked_at` SQL giving their number."""
    check.looked_at = int(connection.execute(text(looked_at)).scalar_one())
    for (example,) in connection.execute(text(wrong)):
        check.found(str(example))
    return check


def compare_measures(
    check: Check, stored: pd.DataFrame, expected: pd.DataFrame, key: list[str]
) -> None:
    """Row by row; a row that is missing counts as zeros."""
    both = stored.merge(expected, "outer", on=key, suffixes=("", "_expected"))
    was = both[_MEASURES].fillna(0).to_numpy(np.int64)
    follows = both[[f"{m}_expected" for m in _MEASURES]].fillna(0).to_numpy(np.int64)
    check.looked_at += len(both)
    for i in np.flatnonzero((was != follows).any(axis=1)):
        where = ", ".join(
            f"{name} {both[name].iloc[i]}" for name in key if both[name].iloc[i] != NEVER
        )
        said = [
            f"{m} is {was[i, j]}, follows {follows[i, j]}"
            for j, m in enumerate(_MEASURES)
            if was[i, j] != follows[i, j]
        ]
        check.found(f"{where}: {'; '.join(said)}")
