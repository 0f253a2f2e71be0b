"""Writes the run report: what was sent, admitted, decided and kept, proved by sets of ids from different stores.

One piece of an equation per step, so that the worker beats between them. The report's bytes are fixed in the ledger, put once into
the object store, and only then shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.domain.envelope import OUTPUTS, TRUTH
from fraud_daemons.domain.identity import canonical_json
from fraud_daemons.errors import PoisonFault
from fraud_daemons.evidence.keys import report_key, report_page_key
from fraud_daemons.evidence.port import EvidenceConflict
from fraud_daemons.observability import events
from fraud_daemons.runtime.activity import Activity, Outcome, PlainActivity
from fraud_daemons.runtime.consumer import StatelessHandler
from fraud_daemons.runtime.database import connections
from fraud_daemons.runtime.unit_of_work import UnitOfWork
from fraud_daemons.runtime.worker import Worker, WorkerContext
from fraud_daemons.state import progress, reports, segments
from fraud_daemons.workers.obs_gov._circumstances import circumstances
from fraud_daemons.workers.obs_gov._equation_terms import Line
from fraud_daemons.workers.obs_gov._equations import LINES
from fraud_daemons.workers.obs_gov._figures import Figures
from fraud_daemons.workers.obs_gov._governance import HeldWatch, write_objects
from fraud_daemons.workers.obs_gov._report_page import report_page
from fraud_daemons.workers.obs_gov._retiring import Retiring
from fraud_daemons.workers.obs_gov._sides import Readers, balancing

IDLE_REST_SECONDS = 0.2
LEDGERS = (("IG_ADMISSION_DSN", "ig"), ("DLA_INDEX_DSN", "dla"), ("ARCHIVE_WRITER_LEDGER_DSN", "archive"))
"""Who seals evidence of a run, by DSN name and schema."""


class RequestIntake(StatelessHandler):
    """Takes requests for reports from the control topic; everything else there is for others."""

    def handle(self, records: Sequence[Record], unit: UnitOfWork) -> None:
        requests = []
        for record in records:
            body = orjson.loads(record.body)
            if body.get("kind") != "REPORT_REQUESTED":
                continue
            try:
                requests.append((body["platform_run_id"], body["request_id"], body["requested_at"]))
            except KeyError as missing:
                raise PoisonFault(
                    f"a report request without {missing}", reason="control: bad report request"
                ) from missing
        if requests:
            reports.take_in(unit.connection, requests)


class Reporting(PlainActivity):
    """Makes the oldest requested report, a piece of an equation a step."""

    name = "reporting"

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._readers = Readers(
            database_of=context.long_database_of, store=context.store, worlds_dir=context.profile.path("worlds")
        )
        self._request: tuple[str, str] | None = None
        self._equations: list[dict[str, Any]] = []
        self._balancing: Generator[None, None, dict[str, Any]] | None = None
        self._behind: list[progress.Behind] = []
        """Who was not through with the run when the report was begun."""

    def step(self) -> Outcome:
        if self._request is None:
            self._write_what_is_fixed()
            with self._context.database.scope() as connection:
                self._request = reports.next_request(connection)
            self._behind = self._under_way(self._request[0]) if self._request else []
            return Outcome(rest_seconds=0.0 if self._request else IDLE_REST_SECONDS)
        run, request_id = self._request
        if len(self._equations) < len(LINES):
            return self._go_on_with(LINES[len(self._equations)], run)
        self._fix(run, request_id)
        self.forget()
        return Outcome(records=1)

    def _go_on_with(self, line: Line, run: str) -> Outcome:
        """The next piece of an equation; its result when there is no other."""
        if self._balancing is None:
            if line.name in WORKER.equations:  # our own objects: nobody else can put what came up meanwhile
                self._write_what_is_fixed()
            self._balancing = balancing(self._readers, line, run)
        try:
            next(self._balancing)
        except StopIteration as end:
            self._equations.append(end.value)
            self._balancing = None
            return Outcome(records=1)
        return Outcome()

    def forget(self) -> None:
        self._request = None
        self._equations = []
        self._balancing = None
        self._behind = []

    def _fix(self, run: str, request_id: str) -> None:
        """Fix the report's bytes before anything is put."""
        document = self._document(run, request_id)
        body = canonical_json(document)
        sha256 = hashlib.sha256(body).hexdigest()
        page = report_page(document, sha256=sha256)
        report = reports.Report(
            run, request_id, document["verdict"], body, sha256, report_key(platform_run_id=run, request_id=request_id),
            page, hashlib.sha256(page).hexdigest(), report_page_key(platform_run_id=run, request_id=request_id),
        )  # fmt: skip
        with self._context.database.scope() as connection:
            reports.intend(connection, report, at=self._context.clock.now())

    def _write_what_is_fixed(self) -> None:
        write_objects(self._context)
        with self._context.database.scope() as connection:
            waiting = reports.unwritten(connection)
        for report in waiting:
            try:
                if report.page:  # none in what an earlier version fixed
                    self._context.store.put_once(report.page_key, report.page, sha256=report.page_sha256)
                self._context.store.put_once(report.object_key, report.body, sha256=report.sha256)
            except (
                EvidenceConflict
            ) as conflict:  # this one report is lost to whoever wrote there; the next ones are not
                self._set_aside(report, conflict)
                continue
            with self._context.database.scope() as connection:
                reports.complete(connection, report)
            self._context.log.info(
                events.REPORT_WRITTEN, run=report.platform_run_id, verdict=report.verdict, key=report.object_key
            )

    def _set_aside(self, report: reports.Report, conflict: EvidenceConflict) -> None:
        with self._context.database.scope() as connection:
            reports.set_conflict(connection, report)
        self._context.log.error(
            events.REPORT_CONFLICTED, run=report.platform_run_id, key=report.object_key, message=str(conflict)
        )

    def _document(self, run: str, request_id: str) -> dict[str, Any]:
        figures = Figures(self._context.long_database_of, run)
        outputs = figures.outputs()
        behind = self._behind or self._under_way(run)
        with connections(self._context.database_of) as at:
            around = circumstances(at, self._context.servers, self._context.profile, run, now=self._context.clock.now())
        good = all(e["missing"] == 0 and e["surplus"] == 0 for e in self._equations)
        return {
            "platform_run_id": run,
            "request_id": request_id,
            "caught_up": not behind,
            "behind": [asdict(stage) for stage in behind],
            "elapsed_seconds": figures.elapsed_seconds(),
            "outputs": {name: tally for name, tally in outputs.items() if name in OUTPUTS},
            "truth": outputs[TRUTH],
            "stages": figures.stages(),
            "equations": self._equations,
            "terms": figures.terms(),
            "latency_ms": figures.latency_ms(),
            "stage_latency_ms": figures.stage_latency_ms(),
            "producers": figures.producers(),
            **around,
            "anchors": self._anchors(run),
            "verdict": "PASS" if good and self._something_went_through() else "FAIL",
        }

    def _anchors(self, run: str) -> list[dict[str, Any]]:
        """Where each chain of the run's evidence ends now: what is taken from it or changed later differs from this."""
        anchors = []
        for dsn, schema in LEDGERS:
            with self._context.long_database_of(dsn).scope() as connection:
                anchors += [asdict(end) for end in segments.chain_ends(connection, schema, run)]
        return anchors

    def _something_went_through(self) -> bool:
        """Nothing equals nothing on every line; and earlier reports about nothing are not something."""
        return any(e["count"] for e in self._equations if e["name"] not in WORKER.equations)

    def _under_way(self, run: str) -> list[progress.Behind]:
        """Stages that are not through with the run. Sessions for long statements: somebody may be held far back in it."""
        with connections(self._context.long_database_of) as at:
            return progress.behind_on(at, run)


def build(context: WorkerContext) -> list[Activity]:
    """The intake of requests, the making of reports, a look at who is held, and the retirement of old runs."""
    return [
        context.consumer(RequestIntake(), topics=WORKER.consumes),
        Reporting(context),
        HeldWatch(context),
        Retiring(context),
    ]


_BUILD: Callable[[WorkerContext], Sequence[Activity]] = build

WORKER = Worker(
    name="run_reporter",
    schema="reporter",
    dsn="PLATFORM_DSN",
    consumes=("control",),
    build=_BUILD,
    equations=("reports_equal_report_objects", "governance_events_equal_objects"),
)
