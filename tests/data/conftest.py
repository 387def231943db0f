"""A database with the real divisions for each test that wants one, copied from one made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from data.cluster import Cluster
from data.database import app_engine, owner_engine
from tests.conftest import drop_database


@pytest.fixture
def divided_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    """The owner's URL of a database with divisions, for this test alone."""
    url = make_database(divided_template)
    yield url
    drop_database(cluster, url)


@pytest.fixture
def divided(divided_url: str) -> Iterator[Engine]:
    """That database as the API's role."""
    engine = app_engine(divided_url)
    yield engine
    engine.dispose()


@pytest.fixture
def divided_owner(divided_url: str) -> Iterator[Engine]:
    """That database as its owner."""
    engine = owner_engine(divided_url)
    yield engine
    engine.dispose()
