"""What every bus does, whoever implements it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraud_daemons.bus import outbox
from fraud_daemons.bus.memory import MemoryBus
from fraud_daemons.bus.port import Bus, OutRecord, TopicPartition, partition_of
from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.errors import FatalFault
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import provision
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import trimming

RUN = "platform_20260101T000000Z"


def records(topic: str, count: int, *, key: str = "k", start: int = 0) -> list[OutRecord]:
    return [OutRecord(topic, f"{key}{n}", f"e{n}", RUN, b'{"n": %d}' % n) for n in range(start, start + count)]


@pytest.fixture
def database_scope(database: str) -> Iterator[Database]:
    provision(database, schemas=("bus", "outbox"), passwords=None, application_name="test")
    yield Database(DsnSource(f"TEST {database}", lambda: database), ConnectOptions(application_name="test"))
    close_thread_connections()


@pytest.fixture(params=["memory", "postgres_log"])
def bus(request: pytest.FixtureRequest) -> Bus:
    in_memory = request.param == "memory"
    made: Bus = MemoryBus() if in_memory else PostgresBus(request.getfixturevalue("database_scope").scope)
    made.ensure_topics(["a", "b"], partitions=3)
    return made


def test_positions_count_from_zero_without_gaps_per_partition(bus: Bus) -> None:
    """Each partition numbers its records 0, 1, 2, … in the order of the append."""
    with bus.transaction() as log:
        first = log.append(records("a", 50))
    with bus.transaction() as log:
        second = log.append(records("a", 50, start=50))
        got = log.read({TopicPartition("a", p): 0 for p in range(3)}, limit=1000)
    assert len(got) == 100
    for partition in range(3):
        mine = [r for r in got if r.partition == partition]
        assert [r.position for r in mine] == list(range(len(mine)))
        assert [int(r.event_id[1:]) for r in mine] == sorted(int(r.event_id[1:]) for r in mine)
    assert {(r.partition, r.position) for r in got} == {p for p in first + second if p}


def test_a_key_always_lands_in_its_partition(bus: Bus) -> None:
    """The partition is a stable function of the key."""
    with bus.transaction() as log:
        places = log.append(records("a", 30))
    assert [p and p[0] for p in places] == [partition_of(f"k{n}", 3) for n in range(30)]


def test_an_aborted_append_leaves_no_gap_and_no_record(bus: Bus) -> None:
    """What did not commit was never there: the next append takes the same positions."""

    def change_of_mind() -> None:
        with bus.transaction() as log:
            log.append(records("a", 10))
            raise RuntimeError("the caller changed its mind")

    with pytest.raises(RuntimeError):
        change_of_mind()
    with bus.transaction() as log:
        places = log.append(records("a", 10))
        heads = log.heads(["a"])
    assert sum(heads.values()) == 10
    assert all(place is not None for place in places)


def test_read_is_bounded_per_partition_and_starts_at_the_position(bus: Bus) -> None:
    """`limit` bounds each partition; a position is inclusive."""
    with bus.transaction() as log:
        log.append([OutRecord("b", "same", f"e{n}", RUN, b"{}") for n in range(20)])
        where = TopicPartition("b", partition_of("same", 3))
        got = log.read({where: 5}, limit=7)
    assert [r.position for r in got] == list(range(5, 12))


def test_a_repeated_sequence_is_absorbed(bus: Bus) -> None:
    """A producer's number is taken once, so a publish repeated after a crash adds nothing."""
    batch = records("a", 10)
    with bus.transaction() as log:
        log.append(batch, producer="w", sequences=range(1, 11))
    with bus.transaction() as log:
        again = log.append(batch + records("a", 2, start=10), producer="w", sequences=range(1, 13))
    assert again[:10] == [None] * 10
    assert all(place is not None for place in again[10:])
    with bus.transaction() as log:
        assert sum(log.heads(["a"]).values()) == 12


def test_an_unknown_topic_is_refused_by_name(bus: Bus) -> None:
    """Publishing where nobody made a topic is a configuration fault, not a silent loss."""
    with pytest.raises(FatalFault, match="nowhere"), bus.transaction() as log:
        log.append([OutRecord("nowhere", "k", "e", RUN, b"{}")])


def test_topics_of_one_append_are_seen_together(bus: Bus) -> None:
    """An append over several topics is all or nothing."""
    with bus.transaction() as log:
        log.append(records("a", 3) + records("b", 4))
    with bus.transaction() as log:
        heads = log.heads(["a", "b"])
    assert sum(p for w, p in heads.items() if w.topic == "a") == 3
    assert sum(p for w, p in heads.items() if w.topic == "b") == 4


def test_the_outbox_forwards_in_order_and_once(database_scope: Database) -> None:
    """Records stored with their state reach a bus on another server in order; a crash before the deletion repeats nothing."""
    bus = MemoryBus()
    bus.ensure_topics(["a"], partitions=1)
    with database_scope.scope() as connection:
        outbox.put(connection, "w", records("a", 5))
    with database_scope.scope() as connection:
        outbox.put(connection, "w", records("a", 5, start=5))
        waiting = outbox.pending(connection, "w")
    assert [sequence for sequence, _ in waiting] == list(range(1, 11))
    outbox.forward(bus, "w", waiting)
    outbox.forward(bus, "w", waiting)  # the crash: appended, not yet forgotten
    with database_scope.scope() as connection:
        outbox.forget(connection, "w", up_to=waiting[-1][0])
        assert outbox.pending(connection, "w") == []
    with bus.transaction() as log:
        got = log.read({TopicPartition("a", 0): 0}, limit=100)
    assert [r.event_id for r in got] == [f"e{n}" for n in range(10)]


def trim(bus: Bus, where: TopicPartition, up_to: int) -> None:
    if isinstance(bus, MemoryBus):
        bus.trim(where, up_to)
    else:
        assert isinstance(bus, PostgresBus)
        with bus.scope() as connection:
            trimming.trim(connection, where, first=0, end=up_to)


def test_a_position_that_was_trimmed_away_is_refused_and_no_other(bus: Bus) -> None:
    """Who stands before the beginning of a partition is told so by name, whatever it reads beside; from the beginning on all
    is as it was, and positions go on counting."""
    with bus.transaction() as log:
        log.append(records("a", 60))
        heads = log.heads(["a"])
    where = TopicPartition("a", 0)
    assert heads[where] > 10
    trim(bus, where, 10)
    with bus.transaction() as log:
        begins = log.beginnings(["a"])
        assert begins == {where: 10, TopicPartition("a", 1): 0, TopicPartition("a", 2): 0}
        got = log.read(begins, limit=1000)
        assert [r.position for r in got if r.partition == 0] == list(range(10, heads[where]))
        assert len(got) == 60 - 10
        for position in (0, 9):
            with pytest.raises(FatalFault, match=f"was trimmed up to 10 and this reader stands at {position}"):
                log.read({**begins, where: position}, limit=1)
    with bus.transaction() as log:
        log.append(records("a", 60, start=60))
        assert log.heads(["a"])[where] > heads[where]
        assert log.read({where: heads[where]}, limit=1)[0].position == heads[where]
