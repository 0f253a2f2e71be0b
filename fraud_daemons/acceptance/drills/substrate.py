"""The object store away, and the supervisor itself killed or frozen."""

from __future__ import annotations

import signal

from fraud_daemons.acceptance.drills.drill import Drill, own_store
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.supervision.deployment import OBJECTSTORE
from fraud_daemons.supervision.substrate import service


def _store_away(stage: Stage) -> None:
    """Stopped, and started again after a while: evidence waits, transactions go on being decided."""
    stage.stop(OBJECTSTORE)
    stage.rest()
    stage.fired["refused_looks"] += service.refusal(stage.deployment, OBJECTSTORE) is not None
    stage.start(OBJECTSTORE)


def _store_kill(stage: Stage) -> None:
    """SIGKILL; the supervisor starts it again."""
    ends = stage.clock.monotonic() + stage.seconds
    while not stage.fired["store_gone"] or stage.clock.monotonic() < ends:
        pid = stage.service_pid(OBJECTSTORE)
        stage.signal(pid, signal.SIGKILL)
        stage.await_gone(pid)
        stage.fired["store_gone"] += 1
        stage.wait_for(
            lambda: service.refusal(stage.deployment, OBJECTSTORE) is None, seconds=60, what="the store to serve again"
        )
        stage.rest(stage.dice.uniform(0.3, 1.0))


DRILLS = (
    Drill("store-away", "the object store is stopped and started again", _store_away, ("refused_looks",), needs=own_store),
    Drill("store-kill", "the object store is killed (SIGKILL), again and again", _store_kill, ("sigkill_sent", "store_gone"),
          needs=own_store),
)  # fmt: skip
