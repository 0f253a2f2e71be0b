"""platform receipts: was this event admitted, what does the evidence say, and is the evidence what was written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import click
import orjson

from fraud_daemons.cli._listing import chosen_run, jsonable, note_read, reading, run_option
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import IG_ADMISSION_DSN, PLATFORM_DSN
from fraud_daemons.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.evidence.port import EvidenceStore


@click.group()
def command() -> None:
    """Receipts of the gate: the admission's row, and the object that holds it."""


@command.command("show")
@click.argument("event_id")
@run_option
@invocation
def show_command(call: Invocation, *, event_id: str, run: str | None) -> int:
    """EVENT_ID's receipt, held against the bytes of its evidence object. 1 when it was never admitted, or they differ."""
    from fraud_daemons.bootstrap import evidence_store
    from fraud_daemons.state import receipts

    profile = call.load_profile()
    with reading(profile, "receipts") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of(IG_ADMISSION_DSN)
        found = receipts.admissions_of(connection, chosen, event_id)
        if not found:
            raise CommandError(
                f"run {chosen} has admitted no event {event_id!r}; ids of a transaction: platform trace FLOW_ID;"
                " what was refused: platform quarantine list",
                exit_code=ExitCode.NO,
            )
        segments = [
            receipts.segment_of(
                connection, chosen, topic=row["topic"], partition=row["partition"], position=row["position"]
            )
            for row in found
        ]
    note_read(profile, f"receipt {event_id}", run=chosen)
    store = evidence_store(profile)
    shown = [
        {**jsonable(row), "evidence": _evidence(row, segment, store)}
        for row, segment in zip(found, segments, strict=True)
    ]
    document = {"platform_run_id": chosen, "event_id": event_id, "receipts": shown}
    call.answer(document, text="\n\n".join(_text(receipt) for receipt in shown))
    wrong = any(receipt["evidence"]["verdict"] == "DIFFERS" for receipt in shown)
    return int(ExitCode.NO if wrong else ExitCode.GOOD)


@command.command("verify")
@click.argument("run", metavar="[RUN]", required=False)
@invocation
def verify_command(call: Invocation, *, run: str | None) -> int:
    """RUN's receipts and quarantine records: ledger, objects, hash chain and the reports' anchors. 1 = deviations, named."""
    from fraud_daemons.acceptance import gate_evidence
    from fraud_daemons.bootstrap import evidence_store
    from fraud_daemons.state import segments

    profile = call.load_profile()
    with reading(profile, "receipts") as tables_of:
        chosen, connection = chosen_run(tables_of(PLATFORM_DSN), run), tables_of(IG_ADMISSION_DSN)
        ledgers = {family: segments.of_run(connection, "ig", family, chosen) for family in gate_evidence.FAMILIES}
    note_read(profile, "receipts and quarantine, whole", run=chosen)
    document = gate_evidence.verify(ledgers, evidence_store(profile), run=chosen)
    call.answer(document, text=_verified_text(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)


def _verified_text(document: dict[str, Any]) -> str:
    lines = [document["platform_run_id"]]
    for family in document["families"]:
        lines.append(
            f"  {family['family']:<14} {family['records']} records in {family['segments']} segments,"
            f" {family['objects']} objects, {family['waiting']} still to be put, {family['anchors']} anchors"
        )
        lines += [f"    {deviation['object']}: {deviation['what']}" for deviation in family["examples"]]
    deviations = sum(family["deviations"] for family in document["families"])
    counted = f"{deviations} deviations" if deviations else "ledger, objects and reports agree"
    return "\n".join([*lines, f"verdict  {document['verdict']}: {counted}"])


def _evidence(row: dict[str, Any], segment: dict[str, Any] | None, store: EvidenceStore) -> dict[str, Any]:
    """The receipt as its object has it: WAITING (not put yet), GOOD, or DIFFERS with what differs."""
    if segment is None or segment["state"] != "COMPLETE":
        return {"verdict": "WAITING", "object_key": segment and segment["object_key"], "detail": "not sealed yet"}
    body = store.get(segment["object_key"])
    found = {"object_key": segment["object_key"], "sha256": segment["sha256"]}
    if hashlib.sha256(body).hexdigest() != segment["sha256"]:
        return {**found, "verdict": "DIFFERS", "detail": "the object's bytes are not those of the ledger"}
    mine = [entry for entry in orjson.loads(body)["records"] if entry["position"] == row["position"]]
    if not mine or mine[0]["event_id"] != row["event_id"] or mine[0]["payload_hash"] != row["payload_hash"]:
        return {**found, "verdict": "DIFFERS", "detail": "the object holds another receipt at this place"}
    return {**found, "verdict": "GOOD", "detail": ""}


def _text(receipt: dict[str, Any]) -> str:
    evidence = receipt["evidence"]
    return (
        f"event     {receipt['event_id']}  {receipt['event_type']}\n"
        f"admitted  {receipt['admitted_at']} from {receipt['producer']}\n"
        f"place     {receipt['topic']}/{receipt['partition']}/{receipt['position']}\n"
        f"payload   sha256 {receipt['payload_hash']}\n"
        f"evidence  {evidence['verdict']}  {evidence['object_key'] or ''}  {evidence['detail']}"
    ).rstrip()
