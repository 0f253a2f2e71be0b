"""The producer killed at every statement and every POST: it resumes without a gap, and what goes out twice is absorbed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fraud_daemons.domain.envelope import OUTPUTS, source_key
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.workers.control_ingress._producer_client import GateClient
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER as PRODUCER
from fraud_daemons.worlds.generator import make_world
from tests.faults.killing import killed_at
from tests.gate import open_gate, prepare
from tests.line import Line
from tests.producing import OTHER_WORKERS, ask, write_beat

POINTS_MAX = 400


@pytest.fixture(autouse=True)
def _connections_end_here() -> Iterator[None]:
    yield
    close_thread_connections()


ROUND, SLICE = 5, 12


@pytest.mark.parametrize(
    "stride", [13, pytest.param(1, marks=(pytest.mark.slow, pytest.mark.timeout(3600)))], ids=["slice", "every"]
)
def test_the_producer_killed_at_any_statement_resumes_without_gap_or_repeat(
    line: Line, short_dir: Path, stride: int
) -> None:
    """At every boundary of a stream of three rounds: restarted, its journal is the world's slice, the bus has each event
    once, and what went out twice was absorbed and counted."""
    prepare(line)
    for worker in OTHER_WORKERS:
        write_beat(short_dir, worker)
    world = make_world(short_dir / "worlds", name="tiny", transactions=40, seed=7, currency="USD")
    expected = {
        output: [derived_id("event", world.scenario_run_id, output, source_key(output, row["payload"]))
                 for row in world.rows(output, 0, SLICE)]
        for output in OUTPUTS
    }  # fmt: skip
    killed = repeats = 0
    with open_gate(line):
        for point in range(1, POINTS_MAX, stride):
            run = line.begin_run(f"platform_20260101T{point:06}Z")
            stream_id = ask(line, 1, run=run, max_events_per_output=SLICE)
            close_thread_connections()
            was_killed = killed_at(point, partial(_stream, line, stream_id), also=[(GateClient, "post")])
            killed += was_killed
            _stream(line, stream_id)
            for output, ids in expected.items():
                journal = line.sql(
                    "select id from wsp.journal, unnest(event_ids) with ordinality as u(id, n) where stream_id = %s"
                    " and output = %s order by round_start, part, n",
                    (stream_id, output),
                )
                assert [row[0] for row in journal] == ids, f"{output} after a kill at boundary {point}"
                on_bus = line.sql("select event_id from bus.log where topic = %s and platform_run_id = %s"
                                  " and record_key not like 'mark-%%' order by event_id", (output, run))  # fmt: skip
                assert [row[0] for row in on_bus] == sorted(ids), f"{output} after a kill at boundary {point}"
            [(sent_again,)] = line.sql(
                "select coalesce(sum(repeats), 0) from ig.repeats where platform_run_id = %s", (run,)
            )
            assert sent_again <= 4 * ROUND + 10, "more than the round under way went out again"
            repeats += sent_again
            if not was_killed:
                break
        else:
            pytest.fail(f"more than {POINTS_MAX} boundaries; the last ones were never tested")
    assert killed >= 60 // stride
    assert repeats > 0


def _stream(line: Line, stream_id: str) -> None:
    """A producer's process: until the stream has ended."""
    activities = line.activities(PRODUCER, settings={"producer.round_transactions_max": ROUND})
    for _ in range(2000):
        for activity in activities:
            activity.step()
        with line.database.scope() as connection:
            row = connection.execute("select state from wsp.streams where stream_id = %s", (stream_id,)).fetchone()
        if row and row[0] == "DONE":
            return
    raise AssertionError("the stream did not end")
