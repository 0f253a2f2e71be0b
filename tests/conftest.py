"""Real parts for tests: one PostgreSQL and one object store per test process, each in a short folder of its own.

Every pytest-xdist worker has its own servers, and both die with it: nothing is left when a test run is killed.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fraud_daemons.supervision.substrate.objectstore import ObjectStore
    from fraud_daemons.supervision.substrate.postgres import PostgresServer
    from tests.line import Line


_BASE_OF_TMP_PATHS = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """One folder for all of pytest's own temporary paths, of this run alone: its default below /tmp would stay, and would
    belong to whoever ran first."""
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        base = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
        config.stash[_BASE_OF_TMP_PATHS] = base
        config.option.basetemp = str(base / "t")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of a test run is left in /tmp."""
    if base := config.stash.get(_BASE_OF_TMP_PATHS, None):
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets, removed afterwards; pytest's tmp_path is too long."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL of the embedded kind; `.dsn(dbname, user="fp_owner")`, `.password`."""
    from fraud_daemons.supervision.substrate.postgres import start_server

    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with start_server(folder, connections_max=100) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The owner's DSN of an empty database, dropped afterwards with whatever sessions are left on it."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.dsn(name)
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """A login role with password "right", dropped afterwards."""
    import psycopg
    from psycopg import sql

    from fraud_daemons.postgres_runtime.connector import close_thread_connections

    role = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login password 'right'").format(sql.Identifier(role)))
    yield role
    close_thread_connections()
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A running object store of the embedded kind; `.endpoint`, `.access_key`, `.secret_key`, `.bucket`, `.writer_*`."""
    from fraud_daemons.supervision.substrate.objectstore import start_store

    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with start_store(folder) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def provisioned_template(postgres_server: PostgresServer) -> str:
    """Name of a database with every schema and topic, made once and copied per test: migrations cost a second."""
    import psycopg

    from fraud_daemons.bootstrap import TOPICS
    from fraud_daemons.bus.postgres_log import PostgresBus
    from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
    from fraud_daemons.postgres_runtime.provisioning import READER_SCHEMAS, SERVICE_SCHEMAS, STATE_SCHEMAS, provision
    from fraud_daemons.runtime.database import Database

    name = "line_template"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    dsn = postgres_server.dsn(name)
    schemas = ("bus", "control", *READER_SCHEMAS, *SERVICE_SCHEMAS, *STATE_SCHEMAS)
    provision(dsn, schemas=schemas, passwords=None, application_name="test")
    database = Database(DsnSource(f"TEST {dsn}", lambda: dsn), ConnectOptions(application_name="test"))
    PostgresBus(database.scope).ensure_topics(TOPICS, partitions=3)
    close_thread_connections()
    return name


@contextmanager
def opened_line(
    request: pytest.FixtureRequest,
    server: PostgresServer,
    template: str,
    folder: Path,
    *,
    kind: type[Line] | None = None,
) -> Iterator[Line]:
    """A `Line` (tests/line.py, or a `kind` of it) on a copy of `template`; the object store starts when a worker asks."""
    import psycopg

    from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings
    from fraud_daemons.postgres_runtime.connector import close_thread_connections
    from tests.line import Line as TheLine

    def make_store() -> S3EvidenceStore:
        store = request.getfixturevalue("object_store")
        return S3EvidenceStore(
            lambda: S3Settings(
                endpoint=store.endpoint,
                bucket=store.bucket,
                region="us-east-1",
                access_key=store.writer_access_key,
                secret_key=store.writer_secret_key,
            )
        )

    name = f"line_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield (kind or TheLine)(server.dsn(name), run_dir=folder, make_store=make_store)
    close_thread_connections()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def line(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, provisioned_template: str, short_dir: Path
) -> Iterator[Line]:
    """A line of the test's own."""
    with opened_line(request, postgres_server, provisioned_template, short_dir) as opened:
        yield opened


@pytest.fixture
def one_partition(line: Line) -> Line:
    """The line as profiles have it by default: one partition per topic, so that every terminal's order is kept."""
    line.sql('delete from bus.heads where "partition" > 0')
    line.bus.ensure_topics((), partitions=1)
    return line
