"""The report's figures: how much went through which stage, and the named terms. They inform; only equations decide.

Each figure is a count from tables of one DSN name, for they may stand on several servers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from psycopg.rows import dict_row

from fraud_daemons.config.dsns import EVENT_BUS_DSN, IG_ADMISSION_DSN
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.postgres_runtime.statements import load
from fraud_daemons.runtime.database import DatabaseOf, connections
from fraud_daemons.state.every_server import every_server

_SQL = "fraud_daemons.workers.obs_gov.sql"
LATENCY_RECORDS_MAX: Final = 5_000
"""Of each partition; of a longer run a stage's latency is that of its newest records."""
_OF_RUN = "where platform_run_id = %(run)s"

STAGES: Final = (
    ("bound", "CSFB_PROJECTION_DSN", f"from csfb.bindings {_OF_RUN}"),
    ("featured", "OFP_SNAPSHOT_INDEX_DSN", f"from ofp.snapshots {_OF_RUN}"),
    ("decided", "DF_REPLAY_DSN", f"from df.decisions {_OF_RUN}"),
    ("intents", "AL_LEDGER_DSN", f"from al.intents {_OF_RUN}"),
    ("outcomes", "AL_OUTCOMES_DSN", f"from al.outcomes {_OF_RUN}"),
    ("audited", "DLA_INDEX_DSN", f"from dla.chains {_OF_RUN} and state = 'CLOSED'"),
    ("triggers", "CASE_TRIGGER_REPLAY_DSN", f"from case_trigger.triggers {_OF_RUN}"),
    ("cases_opened", "CASE_MGMT_LOCATOR", f"from case_mgmt.timeline {_OF_RUN} and kind = 'OPENED'"),
    ("cases_merged", "CASE_MGMT_LOCATOR", f"from case_mgmt.timeline {_OF_RUN} and kind = 'MERGED'"),
    ("labels", "LABEL_STORE_LOCATOR", f"from label_store.assertions {_OF_RUN}"),
)
"""How many came through each stage: stage, DSN name, what is counted."""

TERMS: Final = (
    ("conflicts", IG_ADMISSION_DSN, f"from ig.quarantine {_OF_RUN} and reason = 'PAYLOAD_HASH_MISMATCH'"),
    ("conflicts", "CSFB_PROJECTION_DSN", f"from csfb.anomalies {_OF_RUN}"),
    ("conflicts", "DF_REPLAY_DSN", f"from df.conflicts {_OF_RUN}"),
    ("conflicts", "AL_REPLAY_DSN", f"from al.conflicts {_OF_RUN}"),
    ("conflicts", "DLA_INDEX_DSN", f"from dla.conflicts {_OF_RUN}"),
    ("conflicts", "CASE_TRIGGER_PUBLISH_STORE_DSN", f"from case_trigger.conflicts {_OF_RUN}"),
    ("conflicts", "CASE_MGMT_LOCATOR", f"from case_mgmt.conflicts {_OF_RUN}"),
    ("conflicts", "LABEL_STORE_LOCATOR", f"from label_store.conflicts {_OF_RUN}"),
    ("decided_without_features", "DF_REPLAY_DSN", f"from df.decisions {_OF_RUN} and feature_status = 'ABSENT'"),
    ("late_features", "DF_REPLAY_DSN", f"from df.late_features {_OF_RUN}"),
    ("labels_waiting_for_their_flow", "OFP_PROJECTION_DSN", f"from ofp.labels {_OF_RUN} and state = 'WAITING'"),
    (
        "labels_not_counted_in_features",
        "OFP_PROJECTION_DSN",
        f"from ofp.labels {_OF_RUN} and state in ('NO_PLACE', 'NOT_COUNTED')",
    ),
    (
        "labels_behind_the_last_flow",
        "OFP_PROJECTION_DSN",
        (
            f"from ofp.labels join ofp.runs using (platform_run_id) {_OF_RUN} and state = 'APPLIED'"
            " and source <> 'HUMAN' and observed_microseconds > newest_microseconds"
        ),
    ),
    (
        "bound_partial_or_missing",
        "CSFB_PROJECTION_DSN",
        f"from csfb.bindings {_OF_RUN} and context_status <> 'COMPLETE'",
    ),
)
"""What an equation must not hide in a difference; figures of one name are added up."""


class Figures:
    """Reads the figures of one run; each in a short transaction on its own server."""

    def __init__(self, database_of: DatabaseOf, run: str) -> None:
        self._database_of = database_of
        self._run = run

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What was sent and what became of it, per output and for the truth feed; why the newest stream stopped."""
        outputs = [*OUTPUTS, TRUTH]
        sent = {name: more for name, *more in self._rows("WSP_CHECKPOINT_DSN", "outputs_sent.sql", outputs=outputs)}
        answered = {name: more for name, *more in self._rows(IG_ADMISSION_DSN, "outputs_answered.sql")}
        return {
            output: {
                "sent": sent[output][0],
                **dict(zip(("admitted", "duplicate", "quarantined"), answered.get(output, (0, 0, 0)), strict=True)),
                "stop_reason": sent[output][1],
            }
            for output in outputs
        }

    def elapsed_seconds(self) -> float | None:
        """From the first stream's start to the run's last record on the bus."""
        started = self._moment("WSP_CHECKPOINT_DSN", f"select min(started_at) from wsp.streams {_OF_RUN}")
        ended = self._moment(EVENT_BUS_DSN, _LAST_RECORD)
        return None if started is None or ended is None else round((ended - started).total_seconds(), 3)

    def stages(self) -> dict[str, int]:
        """How many came through each stage."""
        return self._counts(STAGES)

    def terms(self) -> dict[str, int]:
        """The named terms."""
        with connections(self._database_of) as at:
            dead = sum(self._count(each.execute, _LETTERS) for each in every_server(at))
        with self._database_of(IG_ADMISSION_DSN).scope() as connection:
            repeats = self._count(
                connection.execute, f"select coalesce(sum(repeats), 0)::int from ig.repeats {_OF_RUN}"
            )
        return {"dead_lettered": dead, **self._counts(TERMS), "repeats_absorbed": repeats}

    def latency_ms(self) -> dict[str, float | None]:
        """Last part admitted -> decision durable."""
        with (
            self._database_of("DF_REPLAY_DSN").scope() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            cursor.execute(load(_SQL, "latency.sql"), {"run": self._run})
            return cursor.fetchone() or {}

    def stage_latency_ms(self) -> dict[str, dict[str, Any]]:
        """Per stage p50, p95, p99 and over how many records: since the last part was admitted for the line up to the
        decision, since the intent came for acting, since the decision was read for auditing."""
        found = {
            stage: self._percentiles(EVENT_BUS_DSN, "stage_latency_on_bus.sql", topic=topic, limit=LATENCY_RECORDS_MAX)
            for stage, topic in (("bound", "flows.bound"), ("featured", "flows.featured"), ("decided", "decisions"))
        }
        found["acted"] = self._percentiles("AL_OUTCOMES_DSN", "stage_latency_acted.sql")
        found["audited"] = self._percentiles("DLA_INDEX_DSN", "stage_latency_audited.sql")
        return found

    def producers(self) -> list[dict[str, Any]]:
        """What the gate answered, by producer and event type."""
        names = ("producer", "event_type", "admitted", "duplicate", "quarantined")
        return [dict(zip(names, row, strict=True)) for row in self._rows(IG_ADMISSION_DSN, "answers_by_producer.sql")]

    def _percentiles(self, dsn: str, statement: str, **parameters: Any) -> dict[str, Any]:
        [row] = self._rows(dsn, statement, **parameters)
        return dict(zip(("records", "p50", "p95", "p99"), row, strict=True))

    def _counts(self, figures: Sequence[tuple[str, str, str]]) -> dict[str, int]:
        counts = Counter[str]()
        for name, dsn, what in figures:
            with self._database_of(dsn).scope() as connection:
                counts[name] += self._count(connection.execute, f"select count(*)::int {what}")
        return dict(counts)

    def _count(self, execute: Callable[..., Any], statement: str) -> int:
        row = execute(statement.encode(), {"run": self._run}).fetchone()
        return int(row[0])

    def _moment(self, dsn: str, statement: str) -> Any:
        with self._database_of(dsn).scope() as connection:
            row = connection.execute(statement.encode(), {"run": self._run}).fetchone()
        return row[0] if row else None

    def _rows(self, dsn: str, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._database_of(dsn).scope() as connection:
            return connection.execute(load(_SQL, statement), {"run": self._run, **parameters}).fetchall()


_LETTERS = f"select count(*)::int from dead_letters.letters {_OF_RUN} and state <> 'REDRIVEN'"

_LAST_RECORD = (
    f"select max(at) from (select max(appended_at) from bus.log {_OF_RUN}"
    f" union all select max(newest_at) from bus.trimmed {_OF_RUN}) as known(at)"
)
