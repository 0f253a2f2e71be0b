"""What environment_conformance asks, standing: a provisioned database, a store, a project folder, keys, and heartbeats of
processes that are told to run. Tests damage it and mend it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from fraud_daemons import bootstrap
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.policies import read_policy
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.config.secrets_file import write_secrets
from fraud_daemons.conformance.environment import Environment
from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.observability.process_identity import identity_of
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import all_roles
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import principals
from fraud_daemons.status.picture import ProcessState, draw_picture
from fraud_daemons.supervision.substrate.objectstore import ObjectStore, client_for
from fraud_daemons.supervision.substrate.postgres import PostgresServer
from tests.line import ROOT


@dataclass
class Running:
    """A provisioned database, a store, a project folder, and heartbeats as running workers write them."""

    dsn: str
    other_dsn: str
    root: Path
    run_dir: Path
    store: S3Settings
    owner_of_store: Any

    def __post_init__(self) -> None:
        self.environment_variables: dict[str, str] = {"PLATFORM_DSN": self.dsn}
        self.leads_elsewhere: dict[str, str] = {}
        self.processes: dict[str, ProcessState] = {}

    def profile(self, variables: Mapping[str, str] | None = None) -> Any:
        return load_profile(
            "local_parity", root=self.root, environment=variables or self.environment_variables,
            overrides={"profile.run_dir": str(self.run_dir)},
        )  # fmt: skip

    def database_of(self, name: str) -> Database:
        dsn = self.leads_elsewhere.get(name, self.dsn)
        return Database(
            DsnSource(f"{name} {dsn}", lambda: dsn), ConnectOptions(application_name="test", connect_timeout=1)
        )

    def environment(self) -> Environment:
        started = self.profile({"PLATFORM_DSN": self.dsn})
        settings = self.store
        return Environment(
            profile=started,
            servers=bootstrap.servers(started),
            database_of=self.database_of,
            make_store=lambda: S3EvidenceStore(lambda: settings),
            read_secrets=lambda: {"gate": {"producer_key": "p" * 40, "client_key": "c" * 40}},
            reload_profile=self.profile,
            look_at_platform=self.status,
            code_version=code_version(),
            clock=SystemClock(),
        )

    def status(self) -> Mapping[str, Any]:
        """What `platform status --json` says of `processes` and of the heartbeats as they are."""
        return draw_picture(
            profile="local_parity", platform_run_id=None, packs={p.name: p.workers for p in load_packs(self.root)},
            processes=self.processes.values(), services=[], beats=self.run_dir / "beats", beat_age_seconds_max=12.0,
            now_monotonic=time.monotonic(),
        ).to_json()  # fmt: skip

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def beat(
        self, worker: str, pack: str, *, version: str = "", detail: dict[str, Any] | None = None, pid: int | None = None
    ) -> None:
        """Supervision runs that worker as process `pid` (this one unless told), and its loop wrote a heartbeat."""
        me = identity_of(pid or os.getpid())
        assert me is not None
        now = time.monotonic()
        beat = Heartbeat(worker, pack, me.pid, me.start_ticks, me.boot_id, now, "now", "ready", None, now, "now",
                         version=version or code_version(), detail=detail or {})  # fmt: skip
        (self.run_dir / "beats" / f"{worker}.json").write_text(json.dumps(beat.__dict__))
        self.processes[worker] = ProcessState(worker, pack, "running", pid=me.pid, uptime_seconds=60.0)

    def beats(self) -> None:
        """Every worker of the packs, of this code; decision_fabric says by what it decides."""
        for pack in load_packs(self.root):
            for worker in pack.workers:
                told = (
                    {"policy": read_policy(self.root, "baseline").identity()} if worker == "decision_fabric" else None
                )
                self.beat(worker, pack.name, detail=told)


def provisioned(
    postgres_server: PostgresServer, object_store: ObjectStore, run_dir: Path, root: Path
) -> Iterator[Running]:
    names = [f"conf_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        for name in names:
            connection.execute(f"create database {name}")
    for part in ("config", "packs"):
        shutil.copytree(ROOT / part, root / part)
    (run_dir / "beats").mkdir(parents=True, mode=0o700)
    write_secrets(run_dir, {"postgres": {role: f"secret of {role}" for role in all_roles()}})
    store = S3Settings(
        endpoint=object_store.endpoint, bucket=object_store.bucket, region="us-east-1",
        access_key=object_store.writer_access_key, secret_key=object_store.writer_secret_key,
    )  # fmt: skip
    owner = client_for(object_store.endpoint, object_store.access_key, object_store.secret_key)
    made = Running(*(postgres_server.dsn(name) for name in names), root, run_dir, store, owner)
    bootstrap.provision(made.profile())
    with psycopg.connect(made.dsn) as connection:
        principals.ensure(connection, {"producer_key": "p" * 40, "client_key": "c" * 40})  # type: ignore[arg-type]
    made.beats()
    yield made
    close_thread_connections()
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        for name in names:
            connection.execute(f"drop database {name} with (force)")


@contextmanager
def a_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing and is gone afterwards."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()
