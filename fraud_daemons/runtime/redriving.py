"""Hands a dead letter's record to its own worker once more, when a person ordered it.

What the handler does with the record, the letter's new state and the order's end commit together: killed at any moment
it was either done once or is still to be done. No checkpoint moves. A record that fails again ends its order with the
reason and stays a letter; it cannot stop the worker, whatever it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NoReturn

from fraud_daemons.bus.port import Record, TopicPartition
from fraud_daemons.clock import Clock
from fraud_daemons.errors import FatalFault, OverloadFault, PoisonFault, TransientFault
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import letter_orders
from fraud_daemons.state.letter_orders import OpenRedrive

LOOK_EVERY_SECONDS: Final = 1.0
"""People wait for it; a busy worker pays one look at an index of open orders a second."""


class _Again(UnitOfWork):
    """A unit in which setting a record aside is failing: its letter is there already."""

    def dead_letter(self, record: Record, *, reason: str, detail: str) -> NoReturn:  # noqa: ARG002
        raise PoisonFault(f"{reason}: {detail}", reason=reason)


Handle = Callable[[OpenRedrive, UnitOfWork], None]
"""Let the worker's handler take the record and write what it publishes, in the unit's transaction."""


class Redriving:
    """The redrives of one consumer's letters."""

    def __init__(self, worker: str, *, database: Database, clock: Clock, log: Logger) -> None:
        self._worker = worker
        self._database = database
        self._clock = clock
        self._log = log
        self._looked = -LOOK_EVERY_SECONDS

    def step(self, handle: Handle, positions: Callable[[Connection], Mapping[TopicPartition, int]]) -> bool:
        """Carry out the oldest open order, if it is time to look and there is one; True when there was.

        Raises what the loop has to see: an outage, a load that is too large, a fatal fault. The order then stays open."""
        if self._clock.monotonic() - self._looked < LOOK_EVERY_SECONDS:
            return False
        self._looked = self._clock.monotonic()
        redrive: OpenRedrive | None = None
        try:
            with self._database.scope() as connection:
                redrive = letter_orders.next_open(connection, self._worker)
                if redrive is None:
                    return False
                now = self._clock.now()
                unit = _Again(connection, worker=self._worker, now=now, positions=positions(connection))
                handle(redrive, unit)
                if unit.held:
                    return False  # it waits for a record on another partition, as it would on the topic
                letter_orders.end(connection, redrive, failed=None, at=now)
        except (TransientFault, OverloadFault, FatalFault):
            raise
        except Exception as error:
            # a person's order must not take the worker down: whatever the record does is the order's answer
            if redrive is None:
                raise
            self._fail(redrive, error, self._clock.now())
            return True
        self._tell(redrive, "done")
        self._looked = -LOOK_EVERY_SECONDS  # the next one at once
        return True

    def _fail(self, redrive: OpenRedrive, error: Exception, now: datetime) -> None:
        said = f"{error}" if isinstance(error, PoisonFault) else f"{type(error).__name__}: {error}"
        with self._database.scope() as connection:
            letter_orders.end(connection, redrive, failed=said, at=now)
        self._tell(redrive, said)

    def _tell(self, redrive: OpenRedrive, how: str) -> None:
        self._log.info(events.LETTER_REDRIVEN, letter=str(redrive.address), order=redrive.ordinal, ended=how)
