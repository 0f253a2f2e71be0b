"""Waits until ordered redrives of dead letters have ended, one way or the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fraud_daemons.acceptance.progress import refuse_held
from fraud_daemons.clock import Clock
from fraud_daemons.errors import CommandError, ExitCode, TransientFault
from fraud_daemons.runtime.database import DatabaseOf, connections
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.state.letter_orders import Order, orders_of
from fraud_daemons.state.letters import LetterAddress, server_of

LOOK_EVERY_SECONDS: Final = 0.1


def wait_for_end(
    given: Mapping[LetterAddress, Order],
    *,
    database_of: DatabaseOf,
    beats: Path,
    clock: Clock,
    timeout_seconds: float,
) -> dict[LetterAddress, Order]:
    """Every order as it ended. Raises CommandError when a worker is held or time is up; what was ordered stays ordered."""
    ended: dict[LetterAddress, Order] = {}
    deadline, stop = clock.monotonic() + timeout_seconds, StopRequest()
    while len(ended) < len(given):
        try:
            with connections(database_of) as at:
                for address, order in given.items():
                    now = orders_of(server_of(at, address), address)[order.ordinal - 1]
                    if now.state != "OPEN":
                        ended[address] = now
        except TransientFault:
            pass  # the database restarts under us; the orders stay
        if len(ended) < len(given):
            refuse_held(beats)
            if clock.monotonic() > deadline:
                waits = next(address for address in given if address not in ended)
                raise CommandError(
                    f"no answer about {waits} after {timeout_seconds:.0f} s: is {waits.worker} running? see: platform"
                    " status -v; the order stays and will be carried out once - see: platform deadletters show",
                    exit_code=ExitCode.UNKNOWN,
                )
            stop.rest(LOOK_EVERY_SECONDS)
    return {address: ended[address] for address in given}
