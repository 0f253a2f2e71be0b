"""A connection whose every wait for the server has an end on the client's side.

A server that is stopped, or a link that is stalled, answers nothing and refuses nothing: the server's own
statement_timeout does not come, TCP keepalives are answered by the kernel, and a unix socket has neither. It refuses to
retry or to judge: it closes the connection and raises `NoAnswer`; what that means stands in `faults`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

from fraud_daemons.postgres_runtime.faults import NoAnswer

INTERRUPT_INTERVAL_SECONDS = 0.1
"""How often the driver's wait looks for signals; its own default."""

RV = TypeVar("RV")


class DeadlineConnection(psycopg.Connection[Any]):
    """One statement, COMMIT, ROLLBACK or block of a COPY takes at most `client_deadline` seconds; None = no end.

    The driver's own wait keeps the time, in C: measured, the hot path does not notice. A connection past its deadline
    is closed at once, without the server, because nobody knows what the server will still do on it.
    """

    client_deadline: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = INTERRUPT_INTERVAL_SECONDS, timeout: float | None = None) -> RV:
        """As the driver's; a caller with a timeout of its own keeps it. Raises NoAnswer when the deadline has passed."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.client_deadline)
        except _WaitTimeout as error:
            self.pgconn.finish()
            raise NoAnswer(f"no answer from the server within {self.client_deadline:g} s") from error
