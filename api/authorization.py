"""Who may do what, as a table for people: docs/authorization.md, printed from the policy.

`python -m api.authorization > docs/authorization.md`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable

from api.policy import MIB, OPEN, POLICY, Rule
from data.tables import ROLES

HEAD = """# Who may do what

Printed from `api/policy.py` by `python -m api.authorization`; do not edit. What is not here is
refused to everyone, and a route without a row stops the start.

- ● the role may; · the role may not (403); "open" needs no credential. All else is 401 without one.
- *of the scope* says what of the answer depends on the districts and operators of account or key.
  - districts: only what lies in them, and what the account submitted itself. Another district's
    object is answered as if it did not exist, to the byte.
  - city: the same for every account the role lets in.
  - operators: only facilities of its operators. own: its own, and what others shared.
- *body* is the most that is read of one.
"""


def authorization_table(rows: Iterable[Rule] = POLICY) -> str:
    """The whole page in Markdown, rows in order of path and method."""
    titles = ["method", "path", *ROLES, "of the scope", "body"]
    lines = [_line(titles), _line(["---"] * 2 + [":-:"] * len(ROLES) + ["---", "--:"])]
    lines += [_row(row) for row in sorted(rows, key=lambda one: (one.path, one.method))]
    return HEAD + "\n" + "\n".join(lines) + "\n"


def _row(row: Rule) -> str:
    if row.roles is OPEN or row.roles is None:
        marks = ["open"] * len(ROLES)
    else:
        marks = ["●" if role in row.roles else "·" for role in ROLES]
    body = "" if row.method in {"GET", "HEAD", "DELETE"} else _size(row.body_bytes_max)
    return _line([row.method, f"`{row.path}`", *marks, row.scope, body])


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(authorization_table(), end="")
