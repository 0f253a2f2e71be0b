"""What every store of checkpoints does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fraud_daemons.checkpoints.port import Checkpoints
from fraud_daemons.checkpoints.postgres import PostgresCheckpoints
from fraud_daemons.checkpoints.sqlite_sidecar import SqliteCheckpoints
from fraud_daemons.errors import AnotherCopyError
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import provision
from fraud_daemons.runtime.database import Database

Store = Callable[[], AbstractContextManager[Checkpoints]]
SUBSCRIPTIONS = [("a", 0), ("a", 1), ("b", 0)]


@pytest.fixture(params=["postgres", "sqlite_sidecar"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "postgres":
        dsn = request.getfixturevalue("database")
        provision(dsn, schemas=("checkpoints",), passwords=None, application_name="test")
        database = Database(DsnSource(f"TEST {dsn}", lambda: dsn), ConnectOptions(application_name="test"))

        @contextmanager
        def postgres() -> Iterator[Checkpoints]:
            with database.scope() as connection:
                yield PostgresCheckpoints(connection)

        yield postgres
        close_thread_connections()
        return
    file = SqliteCheckpoints(tmp_path / "run" / "consumer_checkpoints.sqlite")

    @contextmanager
    def sidecar() -> Iterator[Checkpoints]:
        yield file

    yield sidecar
    file.close()


def test_a_first_claim_stands_at_zero(store: Store) -> None:
    """A worker that never ran starts at the beginning of every subscription."""
    with store() as checkpoints:
        claim = checkpoints.claim("w", SUBSCRIPTIONS)
    assert dict(claim.positions) == dict.fromkeys(SUBSCRIPTIONS, 0)


def test_an_advance_is_found_by_the_next_claim(store: Store) -> None:
    """A restart resumes where the last committed step ended, under a higher epoch."""
    with store() as checkpoints:
        first = checkpoints.claim("w", SUBSCRIPTIONS)
    with store() as checkpoints:
        checkpoints.advance(first, {("a", 0): (0, 7), ("b", 0): (0, 3)})
    with store() as checkpoints:
        second = checkpoints.claim("w", SUBSCRIPTIONS)
    assert second.epoch > first.epoch
    assert dict(second.positions) == {("a", 0): 7, ("a", 1): 0, ("b", 0): 3}


def test_a_thawed_older_copy_can_move_nothing(store: Store) -> None:
    """After a newer claim every advance and every read of the older one is refused, and nothing has moved."""
    with store() as checkpoints:
        old = checkpoints.claim("w", SUBSCRIPTIONS)
    with store() as checkpoints:
        new = checkpoints.claim("w", SUBSCRIPTIONS)
    with pytest.raises(AnotherCopyError), store() as checkpoints:
        checkpoints.advance(old, {("a", 0): (0, 1)})
    with pytest.raises(AnotherCopyError), store() as checkpoints:
        checkpoints.positions(old)
    with store() as checkpoints:
        assert checkpoints.positions(new) == dict.fromkeys(SUBSCRIPTIONS, 0)


def test_an_advance_from_another_position_is_refused_whole(store: Store) -> None:
    """Compare-and-set: one wrong origin refuses all moves of the call."""
    with store() as checkpoints:
        claim = checkpoints.claim("w", SUBSCRIPTIONS)
    with pytest.raises(AnotherCopyError), store() as checkpoints:
        checkpoints.advance(claim, {("a", 0): (0, 5), ("b", 0): (2, 5)})
    with store() as checkpoints:
        assert checkpoints.positions(claim) == dict.fromkeys(SUBSCRIPTIONS, 0)


def test_workers_do_not_share_positions(store: Store) -> None:
    """Two workers on one topic move apart."""
    with store() as checkpoints:
        one = checkpoints.claim("one", [("a", 0)])
        two = checkpoints.claim("two", [("a", 0)])
    with store() as checkpoints:
        checkpoints.advance(one, {("a", 0): (0, 9)})
    with store() as checkpoints:
        assert checkpoints.positions(two) == {("a", 0): 0}
