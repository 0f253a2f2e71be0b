"""A connection whose every wait for the server has an end on the client's side.

A server that is stopped, or a link that is stalled, answers nothing and refuses nothing: the server's own
statement_timeout does not come, TCP keepalives are answered by the kernel, and a unix socket has neither. It refuses to
retry or to judge: it closes the connection and raises `NoAnswer`; what that means stands in `faults`. Because every wait
here has an end, it also tells the watchdog that whoever waits is alive.
"""

from __future__ import annotations

import traceback
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

from fraud_daemons.observability.pulse import pulse
from fraud_daemons.postgres_runtime.faults import NoAnswer

INTERRUPT_INTERVAL_SECONDS = 0.1
"""How often the driver's wait looks for signals; its own default."""

SHORT_WAIT_SECONDS = 10.0
"""A wait that may last longer than this tells of itself while it lasts, the others when they begin."""

RV = TypeVar("RV")


class DeadlineConnection(psycopg.Connection[Any]):
    """One statement, COMMIT, ROLLBACK or block of a COPY takes at most `client_deadline` seconds; None = no end.

    The driver's own wait keeps the time, in C: measured, the hot path does not notice. A connection past its deadline
    is closed at once, without the server, because nobody knows what the server will still do on it.
    """

    client_deadline: float | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """As the driver's; connect_timeout is the end of this wait. A connect that failed leaves no socket behind."""
        pulse()
        try:
            return super().connect(conninfo, **parameters)
        except psycopg.Error as error:
            # The driver's frames and its error refer to one another and to the socket. Until a collection, which workers run
            # seldom, a server that was frozen would keep a slot for each of them: seen, a minute of 53300 after a thaw.
            for each in (error, error.__context__):
                if each is not None:
                    traceback.clear_frames(each.__traceback__)
            raise

    def wait(self, gen: PQGen[RV], interval: float = INTERRUPT_INTERVAL_SECONDS, timeout: float | None = None) -> RV:
        """As the driver's; a caller with a timeout of its own keeps it. Raises NoAnswer when the deadline has passed."""
        pulse()
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        if self.client_deadline is None or self.client_deadline > SHORT_WAIT_SECONDS:
            gen = _pulsing(gen)
        try:
            return super().wait(gen, interval, self.client_deadline)
        except _WaitTimeout as error:
            self.pgconn.finish()
            raise NoAnswer(f"no answer from the server within {self.client_deadline:g} s") from error


def _pulsing(gen: PQGen[RV]) -> PQGen[RV]:
    """`gen`, with a pulse each time the driver's wait wakes up and there is nothing yet."""
    try:
        waits_for = next(gen)
        while waits_for:
            ready = yield waits_for
            if not ready:
                pulse()
            waits_for = gen.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result
    raise RuntimeError("the driver waits for nothing")
