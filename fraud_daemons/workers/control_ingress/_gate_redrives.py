"""Refused events through the gate again, when a person asks for it: the original bytes, under the rules of now.

The event is judged as its sender's: by what the sender's keys may send now. What is admitted gets its receipt, its record
and the link to the quarantined row in ONE transaction with the answer. What is refused again is answered with its reason
and quarantined no second time. An event that was admitted meanwhile is a duplicate, and is not counted as sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.domain.admission import Item, judge, named_runs, settle
from fraud_daemons.domain.quarantine_redrives import AskedRedrive, asked_of
from fraud_daemons.errors import OverloadFault, PoisonFault
from fraud_daemons.postgres_runtime.connector import Connection
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.database import Beside
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.state import admissions, principals, receipts, redrives, runs
from fraud_daemons.state.redrives import RedriveAnswer
from fraud_daemons.workers.control_ingress._gate_intake import Intake

NO_KEY = "SENDER_WITHOUT_KEY"
NO_ROW = "NOT_QUARANTINED"


class Redrives(StatelessHandler):
    """The handler of requests on `control`. They come at the pace of people, so each has its own statements."""

    def __init__(self, intake: Intake, beside: Beside, *, currency: str) -> None:
        self._intake = intake
        self._beside = beside
        self._currency = currency

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        for record in records:
            asked = _asked(record)
            if asked is None or redrives.answer_to(unit.connection, asked.platform_run_id, asked.request_id):
                continue
            redrives.put_answer(
                unit.connection,
                platform_run_id=asked.platform_run_id,
                request_id=asked.request_id,
                quarantine_id=asked.quarantine_id,
                asked_by=asked.asked_by,
                reason=asked.reason,
                answer=self._again(asked, unit),
                at=unit.now,
            )

    def _again(self, asked: AskedRedrive, unit: UnitOfWork) -> RedriveAnswer:
        connection = unit.connection
        row = receipts.quarantine_row(connection, asked.quarantine_id)
        if row is None:
            return RedriveAnswer("REFUSED", NO_ROW, "nothing refused has this id")
        scope = _scope(connection, row["producer"])
        if not scope:
            return RedriveAnswer("REFUSED", NO_KEY, f"no key of {row['producer']} is accepted now")
        item = _item(bytes(row["body"]))
        with self._beside(connection) as at:
            known = runs.existing(at(PLATFORM_DSN), named_runs([item.value]))
        candidates, refusals = judge([item], scope=scope, currency=self._currency, known_runs=known)
        if candidates:
            before = admissions.receipts(connection, [candidates[0].identity])
            settled = settle(candidates, {identity: receipt.payload_hash for identity, receipt in before.items()})
            if settled.repeats:
                return RedriveAnswer("DUPLICATE", admitted=settled.repeats[0].identity)
            if settled.fresh:
                if not self._intake.admit_again(connection, settled.fresh, producer=row["producer"], at=unit.now):
                    raise OverloadFault("the same event comes in over a connection", reason="gate: overtaken")
                return RedriveAnswer("ADMITTED", admitted=settled.fresh[0].identity)
            refusals = list(settled.refusals)
        return RedriveAnswer("REFUSED", str(refusals[0].reason), refusals[0].detail)


def _asked(record: Record) -> AskedRedrive | None:
    try:
        return asked_of(orjson.loads(record.body))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PoisonFault(
            f"control {record.partition}/{record.position}: {type(error).__name__}: {error}",
            reason="control: contract broken",
        ) from error


def _scope(connection: Connection, producer: str) -> frozenset[str]:
    """What the sender may send by the keys that are accepted now."""
    accepted: frozenset[Any] = frozenset()
    for principal in principals.active(connection):
        if principal.name == producer and principal.expired_at is None:
            accepted |= principal.event_types
    return accepted


def _item(body: bytes) -> Item:
    try:
        return Item(value=orjson.loads(body), raw=body)
    except orjson.JSONDecodeError as error:
        return Item(value=None, raw=body, broken=str(error))
