"""The gate's routes as a WSGI application: finds the route, keeps order and turns faults into JSON answers.

    database away, or the answer to COMMIT lost   503 + Retry-After
    too little room on the disk                   503 + Retry-After
    too much at once, evidence too far behind     429 + Retry-After
    draining                                      503 + Retry-After
    a whole request that is wrong                 400, 401, 403, 404, 405, 409, 413, 422

The decisions are made elsewhere: `_gate_intake`, `_gate_transactions`, `_gate_decisions`; `_gate_pages` describes it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from fraud_daemons.domain.admission import Item, Malformed, TooMany, read_batch
from fraud_daemons.domain.card_numbers import REMOVED_TEXT, holds_pan
from fraud_daemons.domain.json_depth import is_deeper
from fraud_daemons.errors import FatalFault, OverloadFault, TransientFault
from fraud_daemons.observability import events
from fraud_daemons.observability.logs import Logger
from fraud_daemons.workers.control_ingress._gate_decisions import Decisions
from fraud_daemons.workers.control_ingress._gate_http import (
    NDJSON_TYPES,
    Refused,
    Reply,
    Request,
    away,
    busy,
    refusal_reply,
)
from fraud_daemons.workers.control_ingress._gate_intake import Intake, answers
from fraud_daemons.workers.control_ingress._gate_keys import Keys
from fraud_daemons.workers.control_ingress._gate_pages import SCHEMAS, Pages
from fraud_daemons.workers.control_ingress._gate_pressure import Pressure
from fraud_daemons.workers.control_ingress._gate_transactions import Transactions

RETRY_AFTER_SECONDS = 1
DECISIONS = "/v1/decisions/"
DECISION_ID_CHARACTERS_MAX = 64

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class GateApp:
    """The WSGI callable."""

    def __init__(
        self,
        *,
        keys: Keys,
        intake: Intake,
        transactions: Transactions,
        decisions: Decisions,
        pressure: Pressure,
        pages: Pages,
        draining: Callable[[], bool],
        log: Logger,
        batch_events_max: int,
        body_bytes_max: int,
        json_depth_max: int,
    ) -> None:
        self._keys = keys
        self._intake = intake
        self._transactions = transactions
        self._decisions = decisions
        self._pressure = pressure
        self._draining = draining
        self._log = log
        self._batch_events_max = batch_events_max
        self._body_bytes_max = body_bytes_max
        self._json_depth_max = json_depth_max
        self._routes: dict[str, tuple[str, Callable[[Request], Reply]]] = {
            "/v1/events": ("POST", self._post_events),
            "/v1/transactions": ("POST", self._post_transaction),
            "/healthz": ("GET", self._health),
            "/readyz": ("GET", self._readiness),
            "/openapi.json": ("GET", pages.openapi),
            "/schemas": ("GET", pages.index),
            "/docs": ("GET", pages.page),
        }
        self._below: dict[str, tuple[str, Callable[[Request], Reply]]] = {
            DECISIONS: ("GET", self._get_decision),
            SCHEMAS: ("GET", pages.schema),
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        reply = self._answer(Request.of(environ))
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), *reply.headers]
        start_response(f"{reply.status.value} {reply.status.phrase}", headers)
        return [reply.body]

    def _answer(self, request: Request) -> Reply:
        try:
            return self._route(request)(request)
        except Refused as refused:
            return self._refusal(request, refused)
        except OverloadFault as fault:
            return self._refusal(request, busy("overload", fault.reason, retry_after_seconds=RETRY_AFTER_SECONDS))
        except (TransientFault, FatalFault) as fault:
            return self._refusal(request, away(fault.reason, retry_after_seconds=RETRY_AFTER_SECONDS))
        except Exception as error:  # a bug in one request: the caller is told, the thread lives on
            self._log.error(events.BUG_MET, activity="http", path=request.path, exc_info=error)
            bug = Refused(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "bug",
                f"a bug in the gate: {type(error).__name__}",
                fix="nothing of the request was kept; the traceback is in: platform logs ingestion_gate",
            )
            return refusal_reply(bug)

    def _refusal(self, request: Request, refused: Refused) -> Reply:
        self._log.info(
            events.REQUEST_ANSWERED,
            method=request.method,
            path=REMOVED_TEXT if holds_pan(request.path) else request.path[:100],
            status=refused.status.value,
            error=refused.error,
            detail=refused.detail,
        )
        return refusal_reply(refused)

    def _route(self, request: Request) -> Callable[[Request], Reply]:
        below = (route for prefix, route in self._below.items() if request.path.startswith(prefix))
        method, handler = self._routes.get(request.path) or next(below, ("", self._health))
        if not method:
            known = ", ".join([*self._routes, *(f"{prefix}…" for prefix in self._below)])
            raise Refused(HTTPStatus.NOT_FOUND, "unknown_path", "there is nothing here", fix=f"known: {known}")
        if request.method != method:
            raise Refused(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "wrong_method",
                f"{request.method} is not possible here",
                fix=f"use {method}",
                allow=method,
            )
        return handler

    def _post_events(self, request: Request) -> Reply:
        self._open_for_business()
        principal = self._keys.principal(request.key)
        self._pressure.check()
        body, ndjson = request.body(bytes_max=self._body_bytes_max), request.content_type in NDJSON_TYPES
        admitted = self._intake.admit_in_hope(body, principal, ndjson=ndjson, events_max=self._batch_events_max)
        if admitted is None:
            admitted = self._intake.admit(self._events(body, ndjson=ndjson), principal)
        results = ",".join(answers(admitted))
        return Reply(HTTPStatus.OK, f'{{"results":[{results}]}}'.encode())

    def _events(self, body: bytes, *, ndjson: bool) -> list[Item]:
        """The events of a body, whatever they are. Raises Refused."""
        self._check_depth(body)
        try:
            return read_batch(body, ndjson=ndjson, events_max=self._batch_events_max)
        except TooMany as many:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "batch_too_large", str(many), fix="send smaller batches"
            ) from many
        except Malformed as malformed:
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "malformed_json",
                str(malformed),
                fix="send one event, a JSON array of events, or one event per line (application/x-ndjson)",
            ) from malformed

    def _post_transaction(self, request: Request) -> Reply:
        self._open_for_business()
        principal = self._keys.principal(request.key)
        self._pressure.check()
        body = request.body(bytes_max=self._body_bytes_max)
        self._check_depth(body)
        return self._transactions.take(body, principal)

    def _check_depth(self, body: bytes) -> None:
        """Raises Refused. What is admitted in hope is not asked: valid events are as deep as their schemas."""
        if is_deeper(body, self._json_depth_max):
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "too_deep",
                f"arrays and objects are nested more than {self._json_depth_max} deep",
                fix="send events as their schemas say; an event in an array is three deep",
            )

    def _get_decision(self, request: Request) -> Reply:
        self._keys.principal(request.key)
        claimed = request.path.removeprefix(DECISIONS)[:DECISION_ID_CHARACTERS_MAX]
        decision_id = claimed if claimed.isprintable() else ""  # the database takes no NUL, and no decision has one
        return self._decisions.find(decision_id, wait_ms=request.whole_number("wait_ms", default=0))

    def _health(self, _request: Request) -> Reply:
        """The service turns; no database is asked, so that an outage elsewhere never restarts the gate."""
        return Reply.json(HTTPStatus.OK, {"status": "ok"})

    def _readiness(self, _request: Request) -> Reply:
        """200 when an event would be taken in now; else what /v1/events would answer. Every look with its reason."""
        refusals: dict[str, Refused | None] = {}
        try:
            refusals["draining"] = None
            self._open_for_business()
        except Refused as refused:
            refusals["draining"] = refused
        try:
            refusals.update(self._pressure.looks())
            refusals["database"] = None
        except (TransientFault, FatalFault) as fault:
            refusals["database"] = away(fault.reason, retry_after_seconds=RETRY_AFTER_SECONDS)
        checks = {name: refused.detail if refused else "ok" for name, refused in refusals.items()}
        first = next(filter(None, refusals.values()), None)
        if first is None:
            return Reply.json(HTTPStatus.OK, {"status": "ready", "checks": checks})
        return refusal_reply(first, status="not ready", checks=checks)

    def _open_for_business(self) -> None:
        if self._draining():
            raise away("the gate is draining", retry_after_seconds=RETRY_AFTER_SECONDS)
