"""What several files of integration tests share: a run that went well, the object store as its owner sees it, a database
behind a network of its own, and a line whose workers have roles of their own."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fraud_daemons.acceptance.wire_proxy import WireProxy
from fraud_daemons.postgres_runtime.connector import DsnSource, close_thread_connections
from fraud_daemons.supervision.substrate.objectstore import ObjectStore, client_for
from fraud_daemons.supervision.substrate.postgres import PostgresServer
from tests.conftest import opened_line
from tests.integration.planted_defects import Objects
from tests.integration.whole_line import ask_for_report, reporter, whole_run
from tests.line import Line
from tests.own_roles import make_roles
from tests.proxied import proxied, through


@pytest.fixture(scope="module")
def finished(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, provisioned_template: str
) -> Iterator[Line]:
    """A run in which everything is right, with two reports that say so; tests put back what they spoil."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with opened_line(request, postgres_server, provisioned_template, folder) as line:
            whole_run(line, folder)
            for ordinal in (1, 2):
                report = ask_for_report(line, reporter(line), ordinal)
                assert report is not None
                assert report["verdict"] == "PASS", report["equations"]
            yield line
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    return DsnSource(f"TEST_{uuid.uuid4().hex}", lambda: through(proxy, database))


@pytest.fixture
def roles(line: Line) -> Iterator[Line]:
    """The line's database with roles and grants."""
    make_roles(line)
    yield line
    close_thread_connections()


@pytest.fixture(scope="module")
def objects(object_store: ObjectStore) -> Objects:
    """The object store with its owner's keys."""
    keys = (object_store.access_key, object_store.secret_key)
    return Objects(client_for(object_store.endpoint, *keys), object_store.bucket)
