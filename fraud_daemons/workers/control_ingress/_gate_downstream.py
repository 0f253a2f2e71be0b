"""How far the line behind the gate is behind, in records, measured from checkpoints and heads.

Two lags: what the context store has not read, and flows that are bound and not decided. A flow is decided from its
featured record or, when the feature plane is cut off, from the bound one; the shorter of the two ways counts, so a
silent feature plane closes no gate. Event time is never held against a clock. A stage that the profile does not have,
and one whose server gives no answer, does not count: what is down there waits safely on the bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fraud_daemons.bus.port import TopicPartition
from fraud_daemons.config.packs import load_packs
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.errors import TransientFault
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.worker import WorkerContext
from fraud_daemons.state.stage_positions import positions_of

BOUND, FEATURED = "flows.bound", "flows.featured"
CONTEXT, FEATURES, DECISIONS = "context_store_flow_binding", "online_feature_plane", "decision_fabric"
DSN_OF: Final[Mapping[str, str]] = {
    CONTEXT: "CSFB_PROJECTION_DSN",
    FEATURES: "OFP_PROJECTION_DSN",
    DECISIONS: "DF_REPLAY_DSN",
}
"""Stage -> the DSN name under which its checkpoints stand."""

ASK_SECONDS: Final = 0.8
"""How long another server may take to say how far a stage has read."""
SILENT_SECONDS: Final = 10.0
"""A server that gave no answer is not asked again for this long: whoever asks is a caller's request."""

Positions = Mapping[tuple[str, int], int]
Heads = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class Lag:
    """Records that the context store has not read, and flows bound but not decided."""

    unbound_records: int = 0
    undecided_flows: int = 0


class Downstream:
    """Reads the lag; one thread at a time."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        packs = load_packs(context.profile.root, enabled=context.profile.get("profile.packs"))
        present = {worker for pack in packs for worker in pack.workers}
        self._stages = [stage for stage in DSN_OF if stage in present]
        self._silent_until: dict[str, float] = {}

    def lag(self) -> Lag:
        """As of now. Raises TransientFault while the gate's own database is away."""
        elsewhere = {stage: self._elsewhere(stage) for stage in self._stages if not self._is_here(stage)}
        with self._context.database.scope() as connection:
            at = {
                stage: elsewhere[stage] if stage in elsewhere else positions_of(connection, stage)
                for stage in self._stages
            }
            # heads after positions: what is published meanwhile may show as waiting, never as passed
            heads = self._context.bus.log(connection).heads([*OUTPUTS, BOUND, FEATURED])
        return Lag(_behind(heads, at.get(CONTEXT), OUTPUTS), _undecided(heads, at.get(FEATURES), at.get(DECISIONS)))

    def _is_here(self, stage: str) -> bool:
        return self._database(stage).source.name == self._context.database.source.name

    def _database(self, stage: str) -> Database:
        return self._context.database_of(DSN_OF[stage])

    def _elsewhere(self, stage: str) -> Positions | None:
        """The stage's positions on its own server; None while that gives no answer."""
        now = self._context.clock.monotonic()
        if now < self._silent_until.get(stage, now):
            return None
        database = self._database(stage)
        options = replace(
            database.options, connect_timeout=ASK_SECONDS, statement_timeout=ASK_SECONDS, client_deadline=ASK_SECONDS
        )
        try:
            with Database(database.source, options).scope() as connection:
                return positions_of(connection, stage)
        except TransientFault:
            self._silent_until[stage] = now + SILENT_SECONDS
            return None


def _behind(heads: Heads, at: Positions | None, topics: Sequence[str]) -> int:
    """Records of `topics` from the given positions on; 0 for a stage that is not known."""
    if at is None:
        return 0
    return sum(max(0, head - at.get(where, 0)) for where, head in heads.items() if where.topic in topics)


def _undecided(heads: Heads, features: Positions | None, decisions: Positions | None) -> int:
    """Bound flows that neither way to a decision has passed."""
    if decisions is None:
        return 0
    by_bound_record = _behind(heads, decisions, [BOUND])
    if features is None:
        return by_bound_record
    return min(by_bound_record, _behind(heads, features, [BOUND]) + _behind(heads, decisions, [FEATURED]))
