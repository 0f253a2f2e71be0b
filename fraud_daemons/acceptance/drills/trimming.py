"""The bus is trimmed behind a reader that stands still: trimming goes up to it and never past it."""

from __future__ import annotations

from typing import LiteralString

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.grounds import eager_trimming
from fraud_daemons.acceptance.drills.stage import Check, Stage

READERS = ("case_trigger", "identity_entity_graph", "online_feature_plane", "action_layer", "decision_log_audit")
TRIMMED_SECONDS_MAX = 40.0

_PASSED = """
select count(*) from checkpoints.positions p join bus.beginnings b using (topic, "partition")
where p.worker = %s and b.first_position > p."position"
"""
_WAITING = """
select coalesce(sum(h.next_position - p."position"), 0)::bigint from checkpoints.positions p
join bus.heads h using (topic, "partition") where p.worker = %s
"""


def _trimmed_behind_a_reader(stage: Stage) -> None:
    reader = stage.dice.choice(READERS)
    stage.figures["reader"] = reader
    before = _trimmed(stage)
    with stage.frozen([stage.workers()[reader]]):
        stage.rest()
        stage.wait_for(lambda: _trimmed(stage) > before, seconds=TRIMMED_SECONDS_MAX, what="records to be trimmed")
        stage.fired["records_behind"] += _count(stage, _WAITING, reader)
        passed = _count(stage, _PASSED, reader)
    stage.fired["records_trimmed"] += _trimmed(stage) - before
    stage.checks.append(Check("trimmed_past_the_reader", 0, passed, passed == 0))


def _trimmed(stage: Stage) -> int:
    with stage.owner() as connection:
        row = connection.execute("select coalesce(sum(records), 0)::bigint from bus.trimmed").fetchone()
    return int(row[0]) if row else 0


def _count(stage: Stage, statement: LiteralString, reader: str) -> int:
    with stage.owner() as connection:
        row = connection.execute(statement, (reader,)).fetchone()
    return int(row[0]) if row else 0


DRILLS = (
    Drill("bus-trimmed", "the bus is trimmed while a reader is frozen", _trimmed_behind_a_reader,
          ("seen_stopped", "records_behind", "records_trimmed"), seconds=5.0, ground=eager_trimming),
)  # fmt: skip
