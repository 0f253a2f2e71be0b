"""ingestion_gate: takes events in over HTTP, once each, and keeps a receipt for every one.

    POST /v1/events                       one event, an array, or NDJSON: an answer per event, in order
    POST /v1/transactions                 one whole transaction of a live caller
    GET  /v1/decisions/{id}?wait_ms=      its decision
    GET  /healthz, /readyz                liveness (no database) and readiness
    GET  /openapi.json, /schemas, /docs   what it takes and answers

Authenticate, parse, validate, dedupe, admit, append - and what was admitted, refused or repeated commits together with
the records on the bus. Two sealers turn receipts and refusals into evidence objects afterwards. What was refused goes through again when a
person asks for it (`_gate_redrives`). It refuses to run on
another server than the bus: admission and append would be two commits, and the answer could be neither.
"""

from __future__ import annotations

from functools import partial

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.observability.disk import disk_use
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.database import Database
from fraud_daemons.runtime.sealing import rendered
from fraud_daemons.runtime.service import HttpService
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.workers.control_ingress._gate_app import GateApp
from fraud_daemons.workers.control_ingress._gate_decisions import Decisions
from fraud_daemons.workers.control_ingress._gate_disk import DiskGuard, DiskWatch
from fraud_daemons.workers.control_ingress._gate_downstream import Downstream
from fraud_daemons.workers.control_ingress._gate_evidence import (
    QUARANTINE,
    QUARANTINE_FAMILY,
    RECEIPT_TOPICS,
    RECEIPTS,
    RECEIPTS_FAMILY,
    render_quarantine,
)
from fraud_daemons.workers.control_ingress._gate_intake import QUARANTINE_TOPIC, Intake
from fraud_daemons.workers.control_ingress._gate_keys import Keys
from fraud_daemons.workers.control_ingress._gate_openapi import openapi_document
from fraud_daemons.workers.control_ingress._gate_pages import Pages
from fraud_daemons.workers.control_ingress._gate_pressure import Limits, Pressure
from fraud_daemons.workers.control_ingress._gate_receipts import FreshReceipts
from fraud_daemons.workers.control_ingress._gate_redrives import Redrives
from fraud_daemons.workers.control_ingress._gate_transactions import Transactions

SEALERS = (
    (f"ingestion_gate.{RECEIPTS}", RECEIPT_TOPICS),
    (f"ingestion_gate.{QUARANTINE}", (QUARANTINE_TOPIC,)),
)
"""Checkpoint name and topics of each sealer, for measuring how far behind they are."""

RECEIPTS_PER_RECORD = 2
"""So many receipts in an object where another has one record: a receipt has a quarter of its bytes, and an object costs some
milliseconds whatever is in it."""

THREADS_KEPT_FREE = 2
"""Threads that no caller waiting for a decision may take: one for events, one for the service's own probe."""


def build(context: WorkerContext) -> list[Activity]:
    """The service, its two sealers, and the watch on the disk."""
    if not context.same_server:
        raise ConfigurationError(
            [
                "IG_ADMISSION_DSN must name the same server and database as EVENT_BUS_DSN: admission and append commit together"
            ],
            source="ingestion_gate",
        )
    get, database = context.profile.get, context.database
    runs_database = _database_of(context, PLATFORM_DSN)
    currency = get("decision.currency")
    fresh = FreshReceipts()
    intake = Intake(
        database=database,
        runs_database=runs_database,
        bus=context.bus,
        clock=context.clock,
        currency=currency,
        fresh=fresh,
    )
    disk = DiskGuard(
        lambda: disk_use(context.profile.run_dir), context.clock, free_bytes_min=get("disk.free_bytes_min")
    )
    app = GateApp(
        keys=Keys(database, context.clock),
        intake=intake,
        transactions=Transactions(intake=intake, runs_database=runs_database, currency=currency),
        decisions=Decisions(
            _database_of(context, "DF_REPLAY_DSN"),
            context.clock,
            waiters_max=max(1, get("gate.threads") - THREADS_KEPT_FREE),
            wait_ms_max=get("gate.wait_ms_max"),
        ),
        pressure=Pressure(
            database,
            context.clock,
            disk=disk,
            downstream=Downstream(context),
            sealers=SEALERS,
            queued=lambda: service.queued(),  # noqa: PLW0108 - it is made below
            limits=Limits(
                unsealed_records=get("gate.unsealed_records_max"),
                unbound_records=get("gate.unbound_records_max"),
                undecided_flows=get("gate.undecided_flows_max"),
            ),
        ),
        pages=Pages(
            openapi_document(
                batch_events_max=get("gate.batch_events_max"),
                body_bytes_max=get("gate.body_bytes_max"),
                wait_ms_max=get("gate.wait_ms_max"),
            )
        ),
        draining=lambda: context.stop.requested,
        log=context.log,
        batch_events_max=get("gate.batch_events_max"),
        body_bytes_max=get("gate.body_bytes_max"),
        json_depth_max=get("gate.json_depth_max"),
    )
    service = HttpService(
        app,
        host=get("gate.host"),
        port=context.port_of("gate"),
        threads=get("gate.threads"),
        body_bytes_max=get("gate.body_bytes_max"),
        health_path="/healthz",
        detail=lambda: {"events_answered": dict(intake.answered)},
        at_start=partial(_open_session, database),
        another_port=partial(context.another_port, "gate"),
    )
    return [
        service,
        context.sealer(
            fresh.entries,
            family=RECEIPTS_FAMILY,
            topics=RECEIPT_TOPICS,
            name=RECEIPTS,
            records_times=RECEIPTS_PER_RECORD,
        ),
        context.sealer(
            rendered(context.bus, render_quarantine),
            family=QUARANTINE_FAMILY,
            topics=(QUARANTINE_TOPIC,),
            name=QUARANTINE,
        ),
        context.consumer(
            Redrives(intake, context.beside, currency=currency),
            topics=("control",),
            name="ingestion_gate.redrives",
            from_what_is_left=True,
        ),
        DiskWatch(disk),
    ]


def _open_session(database: Database) -> None:
    """A busy thread keeps its turn, so another may get its first request hours after the start: no session is opened then."""
    with database.scope() as connection:
        connection.execute("select 1")


def _database_of(context: WorkerContext, name: str) -> Database:
    """Another component's database. On the same DSN it is ours: one connection per thread, not one per name."""
    dsns = context.profile.dsns
    default = dsns.get(PLATFORM_DSN)
    same = (dsns.get(name) or default) == (dsns.get(context.worker.dsn) or default)
    return context.database if same else context.database_of(name)


WORKER = Worker(
    name="ingestion_gate",
    schema="ig",
    dsn="IG_ADMISSION_DSN",
    build=build,
    consumes=("control",),
    publishes=(*RECEIPT_TOPICS, QUARANTINE_TOPIC),
    keeps_plans=True,
    equations=(
        "sent_equals_admitted_plus_quarantined",
        "admitted_equals_published",
        "admitted_equals_receipts",
        "quarantined_equals_quarantine_objects",
    ),
)
