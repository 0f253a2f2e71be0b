"""What a worker file exposes: `WORKER`, its name, tables and topics, and how its activities are built.

A new worker is one file in `fraud_daemons/workers/<pack>/` with a `WORKER`, and its name in `packs/<pack>.toml`
(plus a migration if it owns a table):

    WORKER = Worker(name="case_trigger", schema="case_trigger", dsn="CASE_TRIGGER_REPLAY_DSN",
                    consumes=("decisions",), publishes=("case_triggers",), build=build, equations=("…",))

    def build(context: WorkerContext) -> list[Activity]:
        return [context.consumer(CaseTrigger(), topics=WORKER.consumes)]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fraud_daemons.bus.postgres_log import PostgresBus
from fraud_daemons.clock import Clock
from fraud_daemons.config.dsns import Server
from fraud_daemons.config.profiles import Profile
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.observability.logs import Logger
from fraud_daemons.postgres_runtime.connector import Connection, ConnectionOf
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.consumer import Consumer, Handler, Pace
from fraud_daemons.runtime.database import Database, connections
from fraud_daemons.runtime.sealing import DOCUMENT, Entries, Form, Sealer
from fraud_daemons.runtime.signals import StopRequest


@dataclass(frozen=True)
class Worker:
    """A worker's definition. `name` = file = supervisord program = log field = first part of the checkpoint key."""

    name: str
    schema: str
    dsn: str
    build: Callable[[WorkerContext], Sequence[Activity]]
    consumes: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()
    """Lines of the run report that account for this worker; one without a line fails `make check`."""
    gathers: bool = False
    """Nobody's decision waits for it: it lets records gather (`bus.gather_seconds`) and takes fewer, larger batches."""
    keeps_plans: bool = False
    """All its statements look up by key, so a session plans each of them once (`ConnectOptions.keeps_plans`)."""
    observes: bool = False
    """It only looks: reads no topic, publishes nothing, keeps nothing of a run. So no record can be lost in it: it has no line."""


@dataclass(frozen=True)
class WorkerContext:
    """What a worker is given when it is built; every adapter in it was chosen by `bootstrap`."""

    worker: Worker
    pack: str
    profile: Profile
    database: Database
    bus: PostgresBus
    same_server: bool
    make_store: Callable[[], EvidenceStore]
    read_secrets: Callable[[], dict[str, Any]]
    """The run directory's secrets, read again at every call so that rotation needs no restart."""
    port_of: Callable[[str], int]
    """Port of a service by name, e.g. "gate"; where the setting says 0 the chosen one, which may change: ask at each connect."""
    database_of: Callable[[str], Database]
    """Another component's database by DSN name, under this worker's own role (see `provisioning.READS`)."""
    long_database_of: Callable[[str], Database]
    """The same for statements that read a whole run: longer timeouts, and so no beat for as long on a frozen server."""
    clock: Clock
    log: Logger
    stop: StopRequest
    another_port: Callable[[str, int], int | None] = lambda _service, _taken: None
    """Another port for a service whose chosen one somebody has taken, already told to its clients; None = it is fixed."""
    servers: tuple[Server, ...] = ()
    """Every database that a DSN name leads to, with the schemas that stand there."""
    reload_profile: Callable[[], Profile] | None = None
    """The profile as its file and the environment say it now, for whoever compares. None in a worker on its own."""
    look_at_platform: Callable[[], dict[str, Any]] | None = None
    """What `platform status --json` says now, from the same function; for who shows it or judges by it. None in a worker on its own."""

    @cached_property
    def store(self) -> EvidenceStore:
        """The evidence store, made when first asked for."""
        return self.make_store()

    def beside(self, connection: Connection) -> AbstractContextManager[ConnectionOf]:
        """Connections by DSN name while the worker's own `connection` is open: that very one for what stands on the same
        server, short transactions of their own for the rest. For reading: nothing over there commits with the worker's own."""
        return connections(self.database_of, {self.database.source.name: connection})

    @property
    def pace(self) -> Pace:
        """How much at once and how often, from the profile."""
        get = self.profile.get
        return Pace(
            batch_records_max=get("loop.batch_records_max"),
            poll_busy_seconds=get("bus.poll_busy_seconds"),
            poll_idle_seconds=get("bus.poll_idle_seconds"),
            gather_seconds=get("bus.gather_seconds") if self.worker.gathers else 0.0,
            dead_letters_run_max=get("loop.dead_letters_run_max"),
            dead_letters_share_max=get("loop.dead_letters_share_max"),
        )

    def consumer(
        self,
        handler: Handler,
        *,
        topics: Sequence[str],
        name: str | None = None,
        choose: Callable[[Connection], Sequence[str]] | None = None,
        wants_idle: bool = False,
        from_what_is_left: bool = False,
    ) -> Consumer:
        """An activity that feeds `handler` from `topics`. `name` (default: the worker's) keys its checkpoints."""
        return Consumer(
            name=name or self.worker.name,
            handler=handler,
            topics=topics,
            database=self.database,
            bus=self.bus,
            same_server=self.same_server,
            clock=self.clock,
            log=self.log,
            pace=self.pace,
            choose=choose,
            wants_idle=wants_idle,
            from_what_is_left=from_what_is_left,
        )

    def sealer(
        self,
        entries: Entries,
        *,
        family: str,
        topics: Sequence[str],
        name: str,
        form: Form = DOCUMENT,
        records_times: int = 1,
    ) -> Sealer:
        """An activity that seals `topics` into evidence objects; needs `<schema>.segments`. See `sealing.rendered`.

        `records_times` is for entries that are small: an object holds so many times the profile's number of records.
        """
        return Sealer(
            name=f"{self.worker.name}.{name}",
            family=family,
            schema=self.worker.schema,
            topics=topics,
            entries=entries,
            database=self.database,
            bus=self.bus,
            same_server=self.same_server,
            store=self.store,
            clock=self.clock,
            log=self.log,
            segment_records_max=self.profile.get("evidence.segment_records_max") * records_times,
            linger_seconds=self.profile.get("evidence.linger_seconds"),
            form=form,
        )
