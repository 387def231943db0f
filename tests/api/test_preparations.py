"""What `yutu run` does before it serves says in the log what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from structlog.testing import capture_logs

from api.commands import preparations
from data.demo import Played
from data.demo_scenario import LENGTH_MINUTES
from geo.errors import Conflict


def played(monkeypatch: pytest.MonkeyPatch, minutes: list[int], end: Played | Exception) -> Any:
    """The log of a play that reaches these minutes and ends so."""

    def play(_engine: Engine, *, packs: Any, after_minute: Callable[[int], None]) -> Played:
        for minute in minutes:
            after_minute(minute)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(preparations, "play", play)
    with capture_logs() as logged:
        preparations._play(create_engine("postgresql+psycopg://nowhere/none"))
    return [(one["event"], one["log_level"]) for one in logged], logged


def test_the_log_says_when_the_storm_begins_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    said, logged = played(monkeypatch, [0, 5, 10], Played(12, 11))
    assert said == [("demonstration_begins", "info"), ("demonstration_ended", "info")]
    assert (logged[0]["minute"], logged[0]["minutes"]) == (0, LENGTH_MINUTES)
    assert (logged[1]["steps"], logged[1]["new"]) == (12, 11)


def test_a_storm_played_before_is_not_said_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played(monkeypatch, [], Played(0, 0))[0] == []


def test_a_storm_that_breaks_off_is_not_said_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, _ = played(monkeypatch, [0], RuntimeError("inside"))
    assert broken == [("demonstration_begins", "info"), ("demonstration_broke_off", "warning")]
    refused, logged = played(monkeypatch, [], Conflict("no inventory"))
    assert refused == [("demonstration_not_played", "info")]
    assert logged[0]["reason"] == "no inventory"
