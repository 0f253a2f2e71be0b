"""Real parts for tests: one PostgreSQL and one object store per test process, each in a short folder of its own.

Every pytest-xdist worker has its own servers, and both die with it: nothing is left when a test run is killed.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fraud_daemons.supervision.substrate.objectstore import ObjectStore
    from fraud_daemons.supervision.substrate.postgres import PostgresServer


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
