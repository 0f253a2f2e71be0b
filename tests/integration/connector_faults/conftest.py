"""A connector that no other test has touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraud_daemons.postgres_runtime import connecting
from fraud_daemons.postgres_runtime.connector import close_thread_connections, counters


@pytest.fixture(autouse=True)
def own_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has the whole burst of connects, and leaves no session of this thread."""
    monkeypatch.setattr(connecting, "_bucket", connecting.ConnectBucket())
    yield
    close_thread_connections()


@pytest.fixture
def before() -> dict[str, int]:
    return counters()
