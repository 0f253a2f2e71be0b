"""A connector that no other test has touched, and a network of its own in front of the database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.postgres_runtime import connecting
from fraud_daemons.postgres_runtime.connector import DsnSource, close_thread_connections, counters
from tests.integration.connector_faults.asking import source_of
from tests.proxied import proxied, through


@pytest.fixture(autouse=True)
def own_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has the whole burst of connects, and leaves no session of this thread."""
    monkeypatch.setattr(connecting, "_bucket", connecting.ConnectBucket())
    yield
    close_thread_connections()


@pytest.fixture
def before() -> dict[str, int]:
    return counters()


@pytest.fixture
def proxy(database: str) -> Iterator[WireProxy]:
    """A network of its own between this test and its database, with a table of unique keys behind it."""
    with psycopg.connect(database) as owner:
        owner.execute("create table effects (id integer primary key)")
    with proxied(database) as running:
        yield running
        close_thread_connections()


@pytest.fixture
def far(proxy: WireProxy, database: str) -> DsnSource:
    """The database as it is reached through the proxy."""
    return source_of(lambda: through(proxy, database))
