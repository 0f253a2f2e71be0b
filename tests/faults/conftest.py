"""No test leaves a database session of its thread to the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraud_daemons.postgres_runtime.connector import close_thread_connections


@pytest.fixture(autouse=True)
def _connections_end_here() -> Iterator[None]:
    yield
    close_thread_connections()
