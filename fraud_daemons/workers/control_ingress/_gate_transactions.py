"""POST /v1/transactions: one whole transaction of a live caller, admitted as four events or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from fraud_daemons.domain.admission import Candidate, Identity, Item, Refusal, Repeat, Settled, judge, mismatch
from fraud_daemons.domain.envelope import OUTPUTS
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.domain.live_transaction import LiveFlow, TransactionInvalid, fan_out
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import runs
from fraud_daemons.state.admissions import Receipt
from fraud_daemons.state.principals import Principal
from fraud_daemons.workers.control_ingress._gate_http import Refused, Reply
from fraud_daemons.workers.control_ingress._gate_intake import Intake, answers

_SCHEMA_FIX = "correct the field; the schema is fraud_daemons/domain/schemas/transaction.v1.json"


class Transactions:
    """Takes transactions for the run that is current now."""

    def __init__(self, *, intake: Intake, runs_database: Database, currency: str) -> None:
        self._intake = intake
        self._runs_database = runs_database
        self._currency = currency

    def take(self, body: bytes, principal: Principal) -> Reply:
        """202 with the decision's id, 200 for the same again, 409 for other content under the same flow_id."""
        if not principal.event_types.issuperset(OUTPUTS):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "not_in_scope",
                f"the key of {principal.name} may not send transactions",
                fix="use a key whose scope holds the four outputs",
            )
        transaction = _parsed(body)
        run = self._current_run()
        flow = _fanned_out(transaction, run=run, principal=principal)
        candidates = self._candidates(flow, principal, run=run)
        kept = canonical_json(transaction)
        admitted = self._intake.commit(
            candidates, lambda known: _all_or_nothing(candidates, known, transaction=kept), principal
        )
        if admitted.settled.refusals:
            raise _conflict(flow)
        fresh = bool(admitted.settled.fresh)
        document = {
            "decision_id": flow.decision_id,
            "flow_id": flow.flow_id,
            "platform_run_id": run,
            "status": "ADMITTED" if fresh else "DUPLICATE",
            "events": [orjson.Fragment(answer) for answer in answers(admitted)],
        }
        return Reply.json(HTTPStatus.ACCEPTED if fresh else HTTPStatus.OK, document)

    def _current_run(self) -> str:
        with self._runs_database.scope() as connection:
            run = runs.current(connection)
        if run is None:
            raise Refused(HTTPStatus.CONFLICT, "no_run", "no run has begun", fix="begin one: platform run new --live")
        return run.platform_run_id

    def _candidates(self, flow: LiveFlow, principal: Principal, *, run: str) -> list[Candidate]:
        """The four events, each under the same rules as on /v1/events."""
        candidates, refusals = judge(
            [Item(event) for event in flow.events],
            scope=principal.event_types,
            currency=self._currency,
            known_runs={run},
        )
        if refusals:
            first = refusals[0]
            raise _unprocessable(first.reason, first.detail.removeprefix("payload."))
        return candidates


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "malformed_json", f"the body is not JSON: {error}", fix="send one JSON object"
        ) from error


def _fanned_out(transaction: Any, *, run: str, principal: Principal) -> LiveFlow:
    try:
        return fan_out(transaction, platform_run_id=run, producer=principal.name)
    except TransactionInvalid as invalid:
        raise _unprocessable("SCHEMA_FAIL", str(invalid)) from invalid


def _all_or_nothing(candidates: list[Candidate], known: Mapping[Identity, Receipt], *, transaction: bytes) -> Settled:
    """All four new, all four repeats, or an anomaly: then nothing is admitted and the transaction is kept apart whole."""
    same = [c for c in candidates if c.identity in known and known[c.identity].payload_hash == c.payload_hash]
    if not any(candidate.identity in known for candidate in candidates):
        return Settled(tuple(candidates), (), ())
    if len(same) == len(candidates):
        return Settled((), tuple(Repeat(c.nth, c.identity) for c in candidates), ())
    refusal: Refusal = mismatch(candidates[0], body=transaction)
    return Settled((), (), (refusal,))


def _unprocessable(error: str, detail: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, error, detail, fix=_SCHEMA_FIX)


def _conflict(flow: LiveFlow) -> Refused:
    return Refused(
        HTTPStatus.CONFLICT,
        "PAYLOAD_HASH_MISMATCH",
        f"flow {flow.flow_id} was admitted with another content; this one is in quarantine and was not acted on",
        fix="send the first content again, or give a new transaction its own flow_id",
    )
