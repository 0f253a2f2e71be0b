"""Asking the producer for a stream, and waiting for its end. Whether the stages behind the gate have caught up is
`progress`'s question; this module knows the producer's own totals and nothing more."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from fraud_daemons import bootstrap
from fraud_daemons.acceptance.progress import refuse_held, wait_until_caught_up
from fraud_daemons.acceptance.reporting import request_report, wait_for_report
from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import Clock, SystemClock
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.config.profiles import Profile
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.observability.heartbeat import read_heartbeat
from fraud_daemons.postgres_runtime.provisioning import OPERATOR
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state import runs, stream_requests, streams
from fraud_daemons.state.runs import Run
from fraud_daemons.state.streams import Stream
from fraud_daemons.supervision.waiting import operator_name
from fraud_daemons.worlds.sealed import open_world

CONTROL = "control"
LOOK_EVERY_SECONDS = 0.1
REPORT_SECONDS_MIN = 30.0  # a report of a run that has ended comes, however late the stream was
PRODUCER = "world_stream_producer"


def new_run(profile: Profile, *, live: bool = False, note: str = "", clock: Clock | None = None) -> Run:
    """Begin a run. Raises CommandError when one began in the same second."""
    database = bootstrap.operator_database(profile, "run")
    return bootstrap.begin_run(
        profile, database, live=live, note=note, clock=clock or SystemClock(), by=operator_name()
    )


def current_run(profile: Profile) -> Run | None:
    """The newest run, None before the first."""
    with bootstrap.operator_database(profile, "run").scope() as connection:
        return runs.current(connection)


def request_stream(
    profile: Profile,
    *,
    world: str,
    platform_run_id: str,
    max_events_per_output: int | None = None,
    rate: float | None = None,
    speedup: float | None = None,
    origin: str = "cursor",
    clock: Clock | None = None,
) -> str:
    """Ask for a stream; its id. The request and its STREAM_READY message commit together.

    `origin` = "cursor" (behind what the run has) or "start". Raises ConfigurationError for a world that is not there.
    """
    open_world(profile.path("worlds"), world)
    database = bootstrap.operator_database(profile, "stream")
    together = bootstrap.same_server(profile, PLATFORM_DSN)
    with database.scope() as connection:
        request = stream_requests.make(
            connection,
            platform_run_id=platform_run_id,
            world=world,
            max_events_per_output=max_events_per_output,
            rate=rate,
            speedup=speedup,
            origin=origin,
            at=(clock or SystemClock()).now(),
        )
        message = OutRecord(CONTROL, CONTROL, request.stream_id, platform_run_id, orjson.dumps(dict(request.record)))
        if together:
            bootstrap.operator_bus(database).log(connection).append([message])
    if not together:  # a crash here leaves a request that nobody hears of: it shows as not accepted, and is asked again
        with bootstrap.operator_bus(_database(profile, EVENT_BUS_DSN)).transaction() as log:
            log.append([message])
    return request.stream_id


def wait_for_stream(
    profile: Profile, stream_id: str, *, timeout_seconds: float, clock: Clock | None = None
) -> dict[str, Any]:
    """Totals when the producer has ended the stream: {"stream_id", "platform_run_id", "outputs": {…}, "truth": {…}}.

    Raises CommandError when the stream failed or did not end in time, saying what the producer waits for.
    """
    clock = clock or SystemClock()
    database = _database(profile, "WSP_CHECKPOINT_DSN")
    deadline = clock.monotonic() + timeout_seconds
    stop = StopRequest()
    stream = None
    while clock.monotonic() <= deadline:
        stream = _look(database, stream_id)
        if stream is not None and stream.state == "DONE":
            return totals(stream)
        if stream is not None and stream.state == "FAILED":
            raise CommandError(f"stream {stream_id} failed: {stream.reason}")
        refuse_held(profile.path("beats"))
        stop.rest(LOOK_EVERY_SECONDS)
    raise CommandError(
        f"stream {stream_id} has not ended after {timeout_seconds:.0f} s ({_standing(profile, stream)});"
        " see: platform status -v, platform logs world_stream_producer",
        exit_code=ExitCode.NO,
    )


def follow(profile: Profile, stream_id: str, *, timeout_seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Wait for the stream's end, then for every stage behind it, then for the report: one document, outputs of this
    stream and equations of the whole run. Raises CommandError naming who is behind when time is up."""
    clock = SystemClock()
    deadline = clock.monotonic() + timeout_seconds
    ended = wait_for_stream(profile, stream_id, timeout_seconds=timeout_seconds, clock=clock)
    tell("sent; waiting for every stage to catch up")
    database = _database(profile, PLATFORM_DSN)
    beats = profile.path("beats")
    wait_until_caught_up(
        partial(_database, profile), beats=beats, clock=clock, timeout_seconds=max(1.0, deadline - clock.monotonic())
    )
    run = ended["platform_run_id"]
    request_id = request_report(_database(profile, EVENT_BUS_DSN), platform_run_id=run, clock=clock)
    report = wait_for_report(
        database,
        platform_run_id=run,
        request_id=request_id,
        beats=beats,
        clock=clock,
        timeout_seconds=max(REPORT_SECONDS_MIN, deadline - clock.monotonic()),
    )
    return {**report, **ended}


def totals(stream: Stream) -> dict[str, Any]:
    """What was sent and how it was answered, per output; truth beside the four."""
    tallies = {feed: dict(vars(tally)) for feed, tally in stream.outputs.items()}
    return {
        "stream_id": stream.stream_id,
        "platform_run_id": stream.platform_run_id,
        "world": stream.world,
        "outputs": {output: tallies[output] for output in OUTPUTS},
        "truth": tallies[TRUTH],
    }


def _look(database: Database, stream_id: str) -> Stream | None:
    try:
        with database.scope() as connection:
            return streams.find(connection, stream_id)
    except TransientFault:  # the database restarts under us: look again
        return None


def _standing(profile: Profile, stream: Stream | None) -> str:
    """How far a stream is, and what the producer says of itself."""
    beat = read_heartbeat(profile.path("beats", f"{PRODUCER}.json"))
    producer = "the producer is not running" if beat is None else f"the producer is {beat.state}"
    if beat is not None and beat.reason:
        producer += f": {beat.reason}"
    if stream is None:
        return f"not taken up; {producer}"
    return f"{stream.state.lower()} at row {stream.next_index or 0}; {producer}"


def _database(profile: Profile, name: str) -> Database:
    return bootstrap.database_for(profile, name, role=OPERATOR, application_name=f"platform/stream/{os.getpid()}")
