"""The object store away: stopped, or killed."""

from __future__ import annotations

from fraud_daemons.acceptance.drills.drill import Drill, own_store
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.supervision.deployment import OBJECTSTORE
from fraud_daemons.supervision.substrate import service


def _store_away(stage: Stage) -> None:
    """Stopped, and started again after a while: evidence waits, transactions go on being decided."""
    with stage.stopped(OBJECTSTORE):
        stage.rest()
        stage.fired["refused_looks"] += service.refusal(stage.deployment, OBJECTSTORE) is not None


def _store_kill(stage: Stage) -> None:
    """SIGKILL; the supervisor starts it again."""
    stage.kill_service(
        OBJECTSTORE, serves=lambda: service.refusal(stage.deployment, OBJECTSTORE) is None, rest_seconds=(0.3, 1.0)
    )


DRILLS = (
    Drill("store-away", "the object store is stopped and started again", _store_away, ("refused_looks",), needs=own_store),
    Drill("store-kill", "the object store is killed (SIGKILL), again and again", _store_kill, ("sigkill_sent", "server_gone"),
          needs=own_store),
)  # fmt: skip
