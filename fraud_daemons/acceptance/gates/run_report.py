"""The run report: asked for, answered, evidence, whole, PASS - and the evidence it anchors is byte for byte what the
ledgers say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from fraud_daemons import bootstrap
from fraud_daemons.acceptance import archive, gate_evidence
from fraud_daemons.acceptance.gates._stream import STAGES as PASSED_BY_ALL
from fraud_daemons.acceptance.gates.gate_200 import RUN_TOTAL
from fraud_daemons.acceptance.gates.scene import Scene
from fraud_daemons.acceptance.gates.verdicts import PASS, Finding, judged
from fraud_daemons.acceptance.reporting import STAGES, request_report, wait_for_report
from fraud_daemons.config.dsns import EVENT_BUS_DSN, PLATFORM_DSN
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.errors import FatalFault
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.state import segments
from fraud_daemons.state.segments import Segment

REPORT_SECONDS_MAX: Final = 120.0
ARCHIVE_SECONDS_MAX: Final = 4.0
"""The archive lingers 2 s before it puts what came last."""
AUDIT: Final = "dla/audit"
LEDGERS: Final = (
    *((family, "IG_ADMISSION_DSN", "ig") for family in gate_evidence.FAMILIES),
    (AUDIT, "DLA_INDEX_DSN", "dla"),
    (archive.FAMILY, "ARCHIVE_WRITER_LEDGER_DSN", "archive"),
)
"""Families of evidence whose segments are in a ledger: DSN name and schema."""

Ledger = Sequence[tuple[Segment, bool]]


def measure(scene: Scene) -> Finding:
    """Ask for the run's report and hold it, and the objects of the run, against the ledgers."""
    scene.tell("asking for the run report")
    request_id = request_report(scene.database(EVENT_BUS_DSN), platform_run_id=scene.run, clock=scene.clock)
    report = wait_for_report(
        scene.database(PLATFORM_DSN),
        platform_run_id=scene.run,
        request_id=request_id,
        beats=scene.profile.path("beats"),
        clock=scene.clock,
        timeout_seconds=REPORT_SECONDS_MAX,
    )
    store = bootstrap.evidence_store(scene.profile)
    wanted = {line for worker in scene.workers for line in bootstrap.find_worker(scene.profile, worker)[1].equations}
    finding = judge(report, equations=wanted, store=store, ledgers=_ledgers(scene))
    if (
        finding.verdict != PASS
    ):  # the archive may just have put the request for this very report; what is wrong stays so
        scene.rest(ARCHIVE_SECONDS_MAX)
        finding = judge(report, equations=wanted, store=store, ledgers=_ledgers(scene))
    return finding


def judge(
    report: Mapping[str, Any], *, equations: set[str], store: EvidenceStore, ledgers: Mapping[str, Ledger]
) -> Finding:
    """Whole, PASS by ids, its own object the same bytes, and every object of the run as its ledger has it."""
    wrong = [*incomplete(report, equations=equations), *_not_its_object(report, store)]
    wrong += [
        f"{line['name']}: missing {line['missing']}, surplus {line['surplus']} ({', '.join(line['examples'])})"
        for line in report["equations"]
        if line["missing"] or line["surplus"]
    ]
    objects = sum(len(ledger) for ledger in ledgers.values())
    wrong += altered(ledgers, store, run=report["platform_run_id"])
    if report["verdict"] != "PASS" and not wrong:
        wrong.append(f"verdict {report['verdict']}")
    good = sum(1 for line in report["equations"] if not line["missing"] and not line["surplus"])
    return judged(
        expected=f"all {len(equations)} lines that the workers name hold by ids, every stage told; report, receipts, audit"
        " and archive objects as their ledgers have them",
        good=f"{good} of {len(report['equations'])} lines hold by ids; {objects} objects as their ledgers have them",
        wrong=wrong,
        covered={
            "equations": len(report["equations"]), "objects": objects, "stages": dict(report["stages"]),
            "report": dict(report["evidence"]),
        },
    )  # fmt: skip


def incomplete(report: Mapping[str, Any], *, equations: set[str]) -> list[str]:
    """What a whole report of this run would have: each worker's lines, each stage, each output, nothing of it still flowing."""
    told = {line["name"] for line in report["equations"]}
    wrong = [f"the line {name} is not in the report" for name in sorted(equations - told)]
    wrong += [f"the stage {stage} is not in the report" for stage in STAGES if stage not in report["stages"]]
    wrong += [
        f"the stage {stage} counts {report['stages'][stage]} of {RUN_TOTAL}"
        for stage in PASSED_BY_ALL
        if stage in report["stages"] and report["stages"][stage] != RUN_TOTAL
    ]
    wrong += [f"the output {output} is not in the report" for output in OUTPUTS if output not in report["outputs"]]
    if not report.get("caught_up", False):
        wrong.append("records were still flowing when it was made")
    return wrong


def altered(ledgers: Mapping[str, Ledger], store: EvidenceStore, *, run: str) -> list[str]:
    """Objects that are not what their ledger says, by key: as `receipts verify` and `archive verify` find them, and the
    audit chains by their hash."""
    answers = gate_evidence.verify({family: ledgers[family] for family in gate_evidence.FAMILIES}, store, run=run)
    found = [*answers["families"], archive.verify(ledgers[archive.FAMILY], store, run=run)]
    wrong = [f"{each['object']}: {each['what']}" for family in found for each in family["examples"]]
    if not ledgers[archive.FAMILY]:
        wrong.append("nothing of this run is in the archive's ledger")
    return wrong + [said for segment, complete in ledgers[AUDIT] if (said := _off_its_hash(segment, complete, store))]


def _off_its_hash(segment: Segment, complete: bool, store: EvidenceStore) -> str | None:
    try:
        found = hashlib.sha256(store.get(segment.object_key)).hexdigest()
    except FatalFault:
        return f"{segment.object_key}: the ledger says it was put, and it is not there" if complete else None
    if found == segment.sha256:
        return None
    return f"{segment.object_key}: its sha256 is {found}, the ledger says {segment.sha256}"


def _not_its_object(report: Mapping[str, Any], store: EvidenceStore) -> list[str]:
    """The report that was answered and the object it names must be the same, and the page beside it whole."""
    where = report["evidence"]
    try:
        if hashlib.sha256(store.get(where["page_key"])).hexdigest() != where["page_sha256"]:
            return [f"its page {where['page_key']} was altered"]
    except FatalFault:
        return [f"its page {where['page_key']} is gone"]
    try:
        body = store.get(where["object_key"])
    except FatalFault:
        return [f"its object {where['object_key']} is gone"]
    if hashlib.sha256(body).hexdigest() != where["sha256"]:
        return [f"its object {where['object_key']} was altered"]
    answered = {name: value for name, value in report.items() if name != "evidence"}
    return [] if orjson.loads(body) == answered else [f"its object {where['object_key']} says something else"]


def _ledgers(scene: Scene) -> dict[str, Ledger]:
    ledgers: dict[str, Ledger] = {}
    for family, name, schema in LEDGERS:
        with scene.database(name).scope() as connection:
            ledgers[family] = segments.of_run(connection, schema, family, scene.run)
    return ledgers
