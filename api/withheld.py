"""A situation as one account may read it: levels and numbers are the city's for everybody, and the
names of incidents are told to those who may read the incidents.

docs/meanings.md, "Scope". Where an incident lies in none of the account's districts, or the account
reads no incidents, its `incident_id` is null; districts, levels and figures stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from api.policy import READS_INCIDENTS
from data.accounts import Account

#: Of incidents that are only supposed, which are nobody's.
SUPPOSED = "supposed-"


def told_to(document: Mapping[str, Any], account: Account) -> Mapping[str, Any]:
    """`document` (a situation, an assessment, or several) as the account may read it."""
    reads = account.role in READS_INCIDENTS
    if reads and account.city_wide:
        return document
    seen = {
        one["incident_id"]
        for one in _members(document)
        if "incident_id" in one and reads and any(map(account.sees, one.get("districts", ())))
    }
    told: Mapping[str, Any] = _without(document, seen)
    return told


def bytes_told_to(body: bytes, etag: str, account: Account) -> tuple[bytes, str]:
    """The same of a stored situation, with an ETag of its own where anything is withheld."""
    if account.city_wide and account.role in READS_INCIDENTS:
        return body, etag
    return _told(body, etag, account.role in READS_INCIDENTS, account)


@lru_cache(maxsize=128)
def _told(body: bytes, etag: str, reads: bool, account: Account) -> tuple[bytes, str]:
    told = orjson.dumps(told_to(orjson.loads(body), account))
    if told == body:
        return body, etag
    return told, f'{etag[:-1]}-{hashlib.sha256(told).hexdigest()[:8]}"'


def _members(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in a document, at any depth."""
    if isinstance(value, Mapping):
        yield value
        for member in value.values():
            yield from _members(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _members(member)


def _without(value: Any, seen: set[str]) -> Any:
    """`value` with null for each `incident_id` that is not among those seen."""
    if isinstance(value, Mapping):
        return {
            key: None
            if key == "incident_id" and member not in seen and not str(member).startswith(SUPPOSED)
            else _without(member, seen)
            for key, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without(member, seen) for member in value]
    return value
