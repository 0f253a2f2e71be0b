"""A `Line` whose DSN names lead to two PostgreSQL servers, provisioned and wired by `bootstrap` itself: own roles, own
grants, and the workers of the second server publish by outbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import structlog

from fraud_daemons import bootstrap
from fraud_daemons.bootstrap.process import _context
from fraud_daemons.config.dsns import SCHEMA_OF
from fraud_daemons.config.packs import Pack
from fraud_daemons.config.profiles import Profile, load_profile
from fraud_daemons.config.secrets_file import write_secrets
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.postgres_runtime.provisioning import all_roles
from fraud_daemons.runtime.database import connections
from fraud_daemons.runtime.signals import StopRequest
from fraud_daemons.runtime.worker import Worker, WorkerContext
from tests.line import ROOT, Line


class TwoServers(Line):
    """`moved` = the DSN names that lead to `there`; all others lead to `here`."""

    def __init__(
        self, here: str, there: str, *, moved: tuple[str, ...], run_dir: Path, make_store: Callable[[], EvidenceStore]
    ) -> None:
        # what a Line appends and reads by itself is the bus, wherever that is
        super().__init__(there if "EVENT_BUS_DSN" in moved else here, run_dir=run_dir, make_store=make_store)
        self.here, self.there = here, there
        self.moved = moved
        write_secrets(run_dir, {"postgres": {role: f"secret of {role}" for role in all_roles()}})
        bootstrap.provision(self.profile())

    def profile(self, settings: Mapping[str, Any] | None = None) -> Profile:
        """The profile that names both servers."""
        environment = {"PLATFORM_DSN": self.here, **dict.fromkeys(self.moved, self.there)}
        overrides = {"profile.run_dir": str(self.run_dir), **(settings or {})}
        return load_profile("local_parity", root=ROOT, environment=environment, overrides=overrides)

    def context_for(
        self, worker: Worker, *, pack: str = "test", settings: Mapping[str, Any] | None = None
    ) -> WorkerContext:
        made = _context(
            self.profile(settings),
            Pack(pack, pack, "", (), (worker.name,), 5.0),
            worker,
            clock=self.clock,
            log=structlog.get_logger(worker.name),
            stop=StopRequest(),
        )
        return replace(
            made, make_store=self.make_store, read_secrets=lambda: self.secrets, port_of=lambda name: self.ports[name]
        )

    def sql(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Plain SQL from outside, on the server where the first schema it names stands."""
        moved = {SCHEMA_OF[name] for name in self.moved}
        named = [schema for schema in re.findall(r"\b(\w+)\.\w+", statement) if schema in SCHEMA_OF.values()]
        with psycopg.connect(self.there if named and named[0] in moved else self.here) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def reading(self) -> Any:
        """Connections by DSN name, as a command has them."""
        return connections(lambda name: bootstrap.operator_database(self.profile(), "test", name))
