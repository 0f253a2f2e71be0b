"""Every drill by name, in the order of their families."""

from __future__ import annotations

from fraud_daemons.acceptance.drills import (
    churn,
    machine,
    misbehaviour,
    network,
    postgres,
    processes,
    sessions,
    substrate,
    trimming,
)
from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.errors import CommandError, ExitCode

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for family in (postgres, sessions, network, substrate, processes, misbehaviour, machine, trimming)
    for drill in family.DRILLS
}


def find_drill(name: str) -> Drill:
    """The drill of that name. Raises CommandError naming all."""
    if name not in DRILLS:
        known = ", ".join([*DRILLS, churn.NAME, "campaign", "soak"])
        raise CommandError(f"there is no drill {name!r}; known: {known}", exit_code=ExitCode.USAGE)
    return DRILLS[name]
