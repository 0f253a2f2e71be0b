"""Puts a person's request on `control` and waits for the answer of its one owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import orjson

from fraud_daemons.acceptance.progress import refuse_held
from fraud_daemons.bootstrap import operator_bus
from fraud_daemons.bus.port import OutRecord
from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.database import DatabaseOf
from fraud_daemons.runtime.signals import StopRequest

LOOK_EVERY_SECONDS: Final = 0.05
Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Owner(Generic[Answered]):
    """Who answers: its worker, where its answers are, and how one is read by run and request id."""

    worker: str
    dsn: str
    answer_to: Callable[[Connection, str, str], Answered | None]


def ask(
    body: Mapping[str, Any],
    owner: Owner[Answered],
    *,
    key: str,
    database_of: DatabaseOf,
    beats: Path,
    clock: Clock,
    timeout_seconds: float,
) -> Answered:
    """The owner's answer to a request. Raises CommandError when nobody answers in time: the request stays."""
    run, request_id = body["platform_run_id"], body["request_id"]
    with operator_bus(database_of("EVENT_BUS_DSN")).transaction() as log:
        log.append([OutRecord("control", key, request_id, run, orjson.dumps(body))])
    deadline, stop = clock.monotonic() + timeout_seconds, StopRequest()
    while clock.monotonic() < deadline:
        try:
            with database_of(owner.dsn).scope() as connection:
                answer = owner.answer_to(connection, run, request_id)
        except TransientFault:
            answer = None  # the database restarts under us; the request is on the bus and stays
        if answer is not None:
            return answer
        refuse_held(beats)
        stop.rest(LOOK_EVERY_SECONDS)
    raise CommandError(
        f"no answer after {timeout_seconds:.0f} s: is {owner.worker} running? see: platform status -v; the request stays"
        " and will be carried out once - look at what became of it before you ask again",
        exit_code=ExitCode.UNKNOWN,
    )
