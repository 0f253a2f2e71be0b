"""Recomputes the decisions of a run from its archive objects alone, and says what differs.

Each archived decision names the record it was made from, its policy and its posture; the policy stands on the topic
`policies`. The same rules on the same record must give the same bytes. When it was decided, and which version the entity
graph had, are facts of that moment and taken over: they are in no digest and no rule reads them.

Under another policy the results are compared - outcome, score, reasons, intents -, for everything else names the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from fraud_daemons.acceptance.archived_run import ArchivedRun
from fraud_daemons.acceptance.flows_seen import ROWS_AT_ONCE, Bound, FlowsSeen
from fraud_daemons.domain.decisions import BROKEN, decide, flow_of, published
from fraud_daemons.domain.policy import Policy, parse_policy
from fraud_daemons.domain.posture import Mode, Posture
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.evidence.archive_lines import ArchivedRecord

DECISIONS, POLICIES, BOUND, FEATURED = "decisions", "policies", "flows.bound", "flows.featured"
RESULT: Final = ("outcome", "score", "reasons", "intents")
"""What a policy decides; compared under another policy."""

KnownPolicy = Callable[[str], Policy | None]
"""Digest -> a policy of this copy of the project, for archives from before policies were archived."""


class Difference(NamedTuple):
    """A decision that came out otherwise: each field as recorded and as replayed."""

    decision_id: str
    flow_id: str
    fields: dict[str, dict[str, Any]]


@dataclass
class Replay:
    """How it ended. `differences` holds up to the limit asked for; `different` counts all."""

    decisions: int = 0
    equal: int = 0
    different: int = 0
    not_replayed: int = 0
    undecidable: int = 0
    """Bound flows that were never decided and cannot be: their records break the contract, now as then"""
    differences: list[Difference] = field(default_factory=list)
    policies: dict[str, str] = field(default_factory=dict)
    """Digest -> where it was found: archive, project, or given"""


class Replayer:
    """Replays one archived run, once."""

    def __init__(
        self,
        archive: ArchivedRun,
        *,
        known: KnownPolicy,
        given: Policy | None = None,
        differences_max: int,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._archive = archive
        self._known = known
        self._given = given
        self._differences_max = differences_max
        self._progress = progress
        self._policies: dict[str, Policy] = {}
        self.result = Replay()

    def run(self) -> Replay:
        """Every decision of the run, then whether each bound flow has exactly one."""
        self._archive.look_for_holes((POLICIES, BOUND, FEATURED, DECISIONS))
        self._read_policies()
        with FlowsSeen() as flows:
            self._note_bound(flows)
            total = max(1, self._archive.objects_of(DECISIONS))
            for partition, record in self._archive.records(DECISIONS):
                self._replay(partition, record, flows)
                self._progress(self._archive.objects_read[DECISIONS], total)
            self._reconcile(flows)
        return self.result

    def _note_bound(self, flows: FlowsSeen) -> None:
        page: list[Bound] = []
        for partition, record in self._archive.records(BOUND):
            page.append(Bound(record.event_id, partition, record.position))
            if len(page) >= ROWS_AT_ONCE:
                flows.bound(page)
                page.clear()
        flows.bound(page)

    def _read_policies(self) -> None:
        """The policies that the archive holds; one whose table is not that of its digest is named and not used."""
        for partition, record in self._archive.records(POLICIES):
            try:
                body = orjson.loads(record.body)
                policy = parse_policy(body["table"], source=f"policy {body['digest'][:16]}")
                if policy.digest != body["digest"]:
                    raise ValueError(f"its table has digest {policy.digest}")
            except (*BROKEN, ConfigurationError) as error:
                where = self._archive.name_of(POLICIES, partition, record.position)
                self._archive.problems.add(where, f"policy at position {record.position}: {error}")
            else:
                self._policies[policy.digest] = policy
                self.result.policies[policy.digest] = "archive"

    def _replay(self, partition: int, record: ArchivedRecord, flows: FlowsSeen) -> None:
        self.result.decisions += 1
        try:
            recorded = orjson.loads(record.body)
            flows.decided(str(recorded["flow_id"]))
            again = self._again(recorded)
        except BROKEN as error:
            again = f"cannot be replayed: {type(error).__name__}: {str(error)[:200]}"
            recorded = {}
        if isinstance(again, str):
            self.result.not_replayed += 1
            where = self._archive.name_of(DECISIONS, partition, record.position)
            self._archive.problems.add(where, f"decision {record.event_id}: {again}")
            return
        fields = self._compared(record, recorded, again)
        if not fields:
            self.result.equal += 1
            return
        self.result.different += 1
        if len(self.result.differences) < self._differences_max:
            self.result.differences.append(Difference(record.event_id, recorded["flow_id"], fields))

    def _again(self, recorded: Mapping[str, Any]) -> dict[str, Any] | str:
        """The decision recomputed, or why it cannot be."""
        topic, partition, position = recorded["sources"]["decided_from"]
        source = self._archive.record_at(topic, partition, position)
        if source is None:
            return f"its record is missing: {self._archive.name_of(topic, partition, position)}"
        policy = self._given or self._policy(recorded["policy"]["digest"])
        if policy is None:
            return (
                f"its policy {recorded['policy']['digest']} is not in the archive; give it with --policy FILE, then only"
                " results are compared"
            )
        posture = Posture(Mode(recorded["posture"]["mode"]), recorded["posture"]["sequence"])
        flow = flow_of(source.body)
        return published(
            decide(flow, policy, posture),
            flow,
            decided_from=(topic, partition, position),
            graph_version=recorded["graph_version"],
            decided_at=recorded["decided_at"],
        )

    def _policy(self, digest: str) -> Policy | None:
        if digest not in self._policies:
            found = self._known(digest)
            if found is None:
                return None
            self._policies[digest] = found
            self.result.policies[digest] = "project"
        return self._policies[digest]

    def _compared(
        self, record: ArchivedRecord, recorded: Mapping[str, Any], again: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Fields that differ; none when the bytes - under a given policy the results - are equal."""
        if self._given is None and orjson.dumps(again) == record.body and again["decision_id"] == record.event_id:
            return {}
        names: Sequence[str] = RESULT if self._given is not None else sorted({*recorded, *again})
        fields = {
            name: {"recorded": recorded.get(name), "replayed": again.get(name)}
            for name in names
            if recorded.get(name) != again.get(name)
        }
        if self._given is None and not fields:  # equal values in other bytes, or under another id
            fields["bytes"] = {"recorded": record.event_id, "replayed": again["decision_id"]}
        return fields

    def _reconcile(self, flows: FlowsSeen) -> None:
        """Each bound flow is decided exactly once, unless it never could be."""
        problems, name_of = self._archive.problems, self._archive.name_of
        for flow in flows.undecided():
            if self._can_never_be_decided(flow):
                self.result.undecidable += 1
            else:
                problems.add(
                    name_of(BOUND, flow.partition, flow.position),
                    f"flow {flow.flow_id} has no decision: an object of decisions is missing, or it is not decided yet",
                )
        for flow_id in flows.unbound():
            problems.add(f"{self._archive.run}/archive/{BOUND}-*", f"flow {flow_id} is decided and was never bound")
        for flow_id, times in flows.decided_more_than_once():
            problems.add(f"{self._archive.run}/archive/{DECISIONS}-*", f"flow {flow_id} is decided {times} times")

    def _can_never_be_decided(self, flow: Bound) -> bool:
        record = self._archive.record_at(BOUND, flow.partition, flow.position)
        policy = self._given or next(iter(self._policies.values()), None)
        if record is None or policy is None:
            return False
        try:
            decide(flow_of(record.body), policy, Posture(Mode.FAIL_CLOSED, 0))
        except BROKEN:
            return True
        return False


def document_of(replay: Replay, archive: ArchivedRun, *, given: Policy | None) -> dict[str, Any]:
    """The answer of `platform replay`: PASS, DIFFERS, or FAIL where the archive is not whole or holds no decision."""
    whole = archive.problems.count == 0 and replay.decisions > 0
    verdict = "FAIL" if not whole else "DIFFERS" if replay.different else "PASS"
    return {
        "platform_run_id": archive.run,
        "policy": None if given is None else given.identity(),
        "compared": list(RESULT) if given is not None else ["bytes"],
        "decisions": replay.decisions,
        "equal": replay.equal,
        "different": replay.different,
        "not_replayed": replay.not_replayed,
        "undecidable": replay.undecidable,
        "differences": [difference._asdict() for difference in replay.differences],
        "policies": replay.policies,
        "objects": dict(sorted(archive.objects_read.items())),
        "problems": archive.problems.count,
        "examples": [problem._asdict() for problem in archive.problems.kept],
        "verdict": verdict,
    }
