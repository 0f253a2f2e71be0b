"""Asks the owner of the cases for a change and waits for its answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fraud_daemons.acceptance.progress import refuse_held
from fraud_daemons.bootstrap import operator_bus
from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.runtime.database import DatabaseOf
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state.case_changes import Answer, answer_to

LOOK_EVERY_SECONDS = 0.05


def ask(
    body: Mapping[str, Any], *, database_of: DatabaseOf, beats: Path, clock: Clock, timeout_seconds: float
) -> Answer:
    """Put a request on `control` and return the answer. Raises CommandError when nobody answers in time: the request stays."""
    run, request_id = body["platform_run_id"], body["request_id"]
    with operator_bus(database_of("EVENT_BUS_DSN")).transaction() as log:
        log.append([OutRecord("control", body["case_id"], request_id, run, orjson.dumps(body))])
    deadline, stop = clock.monotonic() + timeout_seconds, StopRequest()
    while clock.monotonic() < deadline:
        try:
            with database_of("CASE_MGMT_LOCATOR").scope() as connection:
                answer = answer_to(connection, run, request_id)
        except TransientFault:
            answer = None  # the database restarts under us; the request is on the bus and stays
        if answer is not None:
            return answer
        refuse_held(beats)
        stop.rest(LOOK_EVERY_SECONDS)
    raise CommandError(
        f"no answer after {timeout_seconds:.0f} s: is case_management running? see: platform status -v; the request stays"
        " and will be carried out once - look at the case before you ask again",
        exit_code=ExitCode.UNKNOWN,
    )
