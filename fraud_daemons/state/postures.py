"""Which posture is in force: an operator's pin, else the degrade ladder's newest step, else NORMAL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import orjson

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.ladder import Step
from fraud_daemons.domain.posture import Mode, Posture
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.postgres_runtime.statements import load

_SQL = "fraud_daemons.state.sql"
RELEASED = "RELEASED"
PINS_MAX = 100


@dataclass(frozen=True)
class Pin:
    """One order of an operator. `mode` is a posture's mode or RELEASED."""

    sequence: int
    mode: str
    reason: str
    pinned_by: str
    pinned_at: datetime


def in_force(at: ConnectionOf) -> Posture:
    """The posture that counts now, apart from what a profile pins. The pins stand with the platform, the ladder's steps with DL."""
    pinned, stepped = at(PLATFORM_DSN), at("DL_POSTURE_DSN")
    if pinned is stepped:
        row = pinned.execute(load(_SQL, "postures_in_force.sql")).fetchone()
        return Posture(Mode.NORMAL, 0) if row is None else Posture(Mode(row[0]), row[1])
    newest = next(pins(pinned, limit=1), None)
    if newest is not None and newest.mode != RELEASED:
        return Posture(Mode(newest.mode), newest.sequence)
    step = ladder(stepped)
    return Posture(Mode.NORMAL, 0) if step is None else step[0]


def pin(connection: Connection, *, mode: str, reason: str, pinned_by: str, at: datetime) -> Pin:
    """Pin `mode`, or release with RELEASED. Every pin is a row of its own: who, when and why stay readable."""
    row = connection.execute(
        "insert into control.posture_pins (mode, reason, pinned_by, pinned_at) values (%s, %s, %s, %s) returning sequence",
        (mode, reason, pinned_by, at),
    ).fetchone()
    return Pin(row[0] if row else 0, mode, reason, pinned_by, at)


def pins(connection: Connection, *, limit: int = PINS_MAX) -> Iterator[Pin]:
    """Pins and releases, newest first."""
    rows = connection.execute(
        "select sequence, mode, reason, pinned_by, pinned_at from control.posture_pins order by sequence desc limit %s",
        (limit,),
    )
    return (Pin(*row) for row in rows)


def step(connection: Connection, taken: Step, *, at: datetime) -> int:
    """Write a change of posture; its sequence number."""
    row = connection.execute(
        "insert into dl.postures (mode, reason, signals, stepped_at) values (%s, %s, %s, %s) returning sequence",
        (str(taken.mode), taken.reason, orjson.dumps(taken.signals).decode(), at),
    ).fetchone()
    return row[0] if row else 0


def ladder(connection: Connection) -> tuple[Posture, str, datetime] | None:
    """The degrade ladder's newest step with its reason and time; None before the first."""
    row = connection.execute(
        "select mode, sequence, reason, stepped_at from dl.postures order by sequence desc limit 1"
    ).fetchone()
    return None if row is None else (Posture(Mode(row[0]), row[1]), row[2], row[3])
