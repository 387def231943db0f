"""Databases with the real divisions, of a test or of a module, copied from one made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from data.cluster import Cluster
from data.database import app_engine, owner_engine
from tests.conftest import drop_database


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
