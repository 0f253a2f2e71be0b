"""A producer to step against a gate, what may be asked of it, and its journal held against the sealed world."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.domain.envelope import OUTPUTS, source_key
from fraud_daemons.domain.identity import derived_id
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER
from fraud_daemons.worlds.sealed import World
from tests.line import ROOT, RUN, Line

TRANSACTIONS = 300
STEPS_MAX = 5000
OTHER_WORKERS = sorted(path.stem for path in (ROOT / "fraud_daemons/workers").glob("*/[a-z]*.py"))
SMALL_ROUNDS = {"producer.round_transactions_max": 30}


def write_beat(run_dir: Path, worker: str, *, state: str = "ready", reason: str | None = None) -> None:
    """A heartbeat of `worker`, as if this process were it; never too old on the test's clock."""
    me = identity_of(os.getpid())
    assert me is not None
    beat = Heartbeat(
        worker=worker, pack="test", pid=me.pid, start_ticks=me.start_ticks, boot_id=me.boot_id, beat_monotonic=1e9,
        beat_at="", state=state, reason=reason, since_monotonic=0.0, since="",
    )  # fmt: skip
    folder = run_dir / "beats"
    folder.mkdir(exist_ok=True)
    (folder / f"{worker}.json").write_bytes(orjson.dumps(vars(beat)))


def ask(line: Line, ordinal: int, *, run: str = RUN, **request: Any) -> str:
    """Publish STREAM_READY; the stream's id."""
    stream_id = derived_id("stream", run, "tiny", ordinal)
    message = {
        "kind": "STREAM_READY", "stream_id": stream_id, "ordinal": ordinal, "platform_run_id": run, "world": "tiny",
        "max_events_per_output": None, "rate": None, "speedup": None, "from": "cursor", "requested_at": "",
    }  # fmt: skip
    line.append("control", [message | request])
    return stream_id


def producer(line: Line, **settings: Any) -> list[Activity]:
    """The worker as a new process has it."""
    return line.activities(WORKER, settings=SMALL_ROUNDS | settings)


def work_until_ended(line: Line, activities: list[Activity], *, advance_seconds: float = 0.0) -> None:
    """Step until no stream is open."""
    for _ in range(STEPS_MAX):
        for activity in activities:
            activity.step()
        line.clock.advance(advance_seconds)
        [(still_open, known)] = line.sql(
            "select count(*) filter (where state in ('WAITING', 'RUNNING')), count(*) from wsp.streams"
        )
        if known == len(line.records("control")) and not still_open:
            return
    raise AssertionError("the stream did not end")


def world_ids(world: World, output: str, start: int, stop: int) -> list[str]:
    """The ids of a slice of the sealed world, derived here and not by the producer."""
    return [
        derived_id("event", world.scenario_run_id, output, source_key(output, row["payload"]))
        for row in world.rows(output, start, stop)
    ]


def check_slice(line: Line, world: World, stream_id: str, start: int, stop: int, *, stop_reason: str) -> None:
    """The fact: per output the journal of the stream holds exactly the world's slice, in order and answered; the bus
    holds each event once; totals and stop marker agree."""
    [(totals,)] = line.sql("select outputs from wsp.streams where stream_id = %s and state = 'DONE'", (stream_id,))
    for output in OUTPUTS:
        journal = line.sql(
            "select id, status from wsp.journal, unnest(event_ids, statuses) with ordinality as u(id, status, n)"
            " where stream_id = %s and output = %s order by round_start, part, n",
            (stream_id, output),
        )
        expected = world_ids(world, output, start, stop)
        assert [row[0] for row in journal] == expected
        tally = totals[output]
        assert tally["stop_reason"] == stop_reason
        assert tally["sent"] == len(expected) == tally["admitted"] + tally["duplicate"]
        assert tally["admitted"] == sum(status == "ADMITTED" for _, status in journal)
        on_bus = [b["event_id"] for b in line.bodies(output) if b["event_type"] == output]
        assert len(on_bus) == len(set(on_bus))
        assert set(expected) <= set(on_bus)


def check_marks(line: Line) -> None:
    """On every partition marks rise, and never claim an event that comes behind them."""
    for output in OUTPUTS:
        claimed: dict[int, tuple[str, int]] = {}
        for record in line.records(output):
            body = orjson.loads(record.body)
            mark = body["payload"] if body["event_type"] == "progress_mark" else None
            if mark:
                up_to = (mark["up_to_occurred_at"], mark["up_to_source_seq"])
                assert up_to > claimed.get(record.partition, ("", -1))
                claimed[record.partition] = up_to
            else:
                assert (body["occurred_at"], body["source_seq"]) > claimed.get(record.partition, ("", -1))
