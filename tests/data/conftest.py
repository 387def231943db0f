"""Databases with the real divisions, of a test or of a module, copied from one made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from data.cluster import Cluster
from data.database import app_engine, owner_engine
from tests.conftest import drop_database, make_short_folder
from tests.data.place import Place, attach, report_down


@pytest.fixture(scope="module")
def shared_divided_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    """The owner's URL of a database with divisions, shared by the tests of one module."""
    url = make_database(divided_template)
    yield url
    drop_database(cluster, url)


@pytest.fixture
def divided(divided_database_url: str) -> Iterator[Engine]:
    """That database as the API's role."""
    engine = app_engine(divided_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def divided_owner(divided_database_url: str) -> Iterator[Engine]:
    """That database as its owner."""
    engine = owner_engine(divided_database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def furnished() -> Iterator[Place]:
    """A place with districts and an inventory, stopped: to be copied, for making one takes long."""
    with make_short_folder() as folder:
        made = Place(folder / "var", folder / "run")
        try:
            made.set_up()
        finally:
            made.cluster.stop()
        yield made


@pytest.fixture
def place(furnished: Place, short_folder: Path) -> Iterator[Place]:
    """Districts, an inventory, events, an incident with a photo; started."""
    made = Place(short_folder / "var", short_folder / "run")
    try:
        made.start_as(furnished)
        engine = made.engine()
        report_down(engine, "first", range(50))
        attach(engine, made.var, "one.jpg", 80)
        engine.dispose()
        (made.var / "tls").mkdir()
        (made.var / "tls" / "ca.pem").write_text("certificate authority")
        yield made
    finally:
        made.cluster.stop()


@pytest.fixture
def restored(short_folder: Path) -> Iterator[Place]:
    """An empty place to restore into; what was started there is stopped."""
    made = Place(short_folder / "new", short_folder / "run2")
    yield made
    made.cluster.stop()
