"""environment_conformance on real parts: each deviation is a named FAIL with expected, observed and remedy, and PASS again
when it is mended. The pass-through compares files with files, and must miss every one of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraud_daemons import bootstrap
from fraud_daemons.clock import SystemClock
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.policies import read_policy
from fraud_daemons.config.profiles import load_profile
from fraud_daemons.config.secrets_file import write_secrets
from fraud_daemons.conformance.environment import Check, Environment, Verdict, worst
from fraud_daemons.conformance.rounds import one_round
from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings
from fraud_daemons.observability.code_version import code_version
from fraud_daemons.observability.heartbeat import Heartbeat
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import all_roles
from fraud_daemons.runtime.database import Database
from fraud_daemons.state import principals
from fraud_daemons.supervision.substrate.objectstore import ObjectStore, client_for
from fraud_daemons.supervision.substrate.postgres import PostgresServer
from fraud_daemons.workers.obs_gov import environment_conformance
from tests.gate import events_of, open_gate
from tests.line import ROOT, Line


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
            code_version=code_version(),
            clock=SystemClock(),
        )

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def beat(self, worker: str, pack: str, *, version: str, detail: dict[str, Any] | None = None) -> None:
        """A heartbeat as that worker's loop would write it."""
        beat = Heartbeat(worker, pack, 1, 1, "boot", 0.0, "now", "ready", None, 0.0, "now", version=version,
                         detail=detail or {})  # fmt: skip
        (self.run_dir / "beats" / f"{worker}.json").write_text(json.dumps(beat.__dict__))

    def beats(self) -> None:
        """Every worker of the packs, of this code; decision_fabric says by what it decides."""
        for pack in load_packs(self.root):
            for worker in pack.workers:
                told = (
                    {"policy": read_policy(self.root, "baseline").identity()} if worker == "decision_fabric" else None
                )
                self.beat(worker, pack.name, version=code_version(), detail=told)


@pytest.fixture(scope="module")
def running(postgres_server: PostgresServer, object_store: ObjectStore) -> Iterator[Running]:
    """What `platform up` leaves, without the processes: checks ask servers, store and heartbeats. Each test mends."""
    with tempfile.TemporaryDirectory(prefix="fp", dir="/tmp") as folder:
        yield from _provisioned(postgres_server, object_store, Path(folder) / "run", Path(folder) / "project")


def _provisioned(
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


Round = Callable[[Environment], list[Check]]
Fault = Callable[[Running], Any]


def fails_and_passes_again(running: Running, fault: Fault, named: str, words: str, look: Round) -> None:
    """The fact: PASS before, a FAIL of that name that tells what was expected, observed and what to do, PASS when mended."""
    before = look(running.environment())
    assert worst(before) is Verdict.PASS, [check for check in before if check.verdict is not Verdict.PASS]
    steps = fault(running)
    next(steps)
    try:
        found = {check.check: check for check in look(running.environment())}
        assert found[named].verdict is Verdict.FAIL, f"{named} is not seen: {found.get(named)}"
        assert words in found[named].observed
        assert found[named].expected
        assert found[named].remedy
        others = [c.check for c in found.values() if c.verdict is Verdict.FAIL and c.check != named]
        assert not others, f"{named} alone is wrong, and not {others}"
    finally:
        next(steps, None)
    after = look(running.environment())
    assert worst(after) is Verdict.PASS, [check for check in after if check.verdict is not Verdict.PASS]


def a_dropped_index(running: Running) -> Iterator[None]:
    running.sql("drop index ieg.edges_by_entity")
    yield
    running.sql("create index edges_by_entity on ieg.edges (platform_run_id, entity, card)")


def a_changed_column(running: Running) -> Iterator[None]:
    running.sql("alter table ig.principals alter column active drop default")
    yield
    running.sql("alter table ig.principals alter column active set default true")


def a_stopped_bucket(running: Running) -> Iterator[None]:
    good = running.store
    running.store = replace(good, endpoint="http://127.0.0.1:9")  # the discard port: nobody answers
    yield
    running.store = good


def a_bucket_without_versions(running: Running) -> Iterator[None]:
    owner = running.owner_of_store
    where = {"Bucket": running.store.bucket}
    policy = owner.get_bucket_policy(**where)["Policy"]
    owner.delete_bucket_policy(**where)
    owner.put_bucket_versioning(**where, VersioningConfiguration={"Status": "Suspended"})
    yield
    owner.put_bucket_versioning(**where, VersioningConfiguration={"Status": "Enabled"})
    owner.put_bucket_policy(**where, Policy=policy)


def a_changed_policy_byte(running: Running) -> Iterator[None]:
    file = running.root / "config" / "policies" / "baseline.toml"
    text = file.read_text()
    file.write_text(text.replace("weight = 25", "weight = 26", 1))
    assert file.read_text() != text
    yield
    file.write_text(text)


def an_expired_key(running: Running) -> Iterator[None]:
    running.sql("update ig.principals set expires_at = now() - interval '1 second' where name = 'client'")
    yield
    running.sql("update ig.principals set expires_at = null")


def a_worker_of_another_version(running: Running) -> Iterator[None]:
    running.beat("action_layer", "decision_lane", version="0.0.9+000000000000")
    yield
    running.beat("action_layer", "decision_lane", version=code_version())


def a_group_split_on_the_servers(running: Running) -> Iterator[None]:
    running.leads_elsewhere = {"DF_CHECKPOINT_DSN": running.other_dsn}
    yield
    running.leads_elsewhere = {}


def a_group_split_in_the_profile(running: Running) -> Iterator[None]:
    running.environment_variables = {"PLATFORM_DSN": running.dsn, "AL_LEDGER_DSN": running.other_dsn}
    yield
    running.environment_variables = {"PLATFORM_DSN": running.dsn}


def a_right_taken_away(running: Running) -> Iterator[None]:
    running.sql("revoke insert on ofp.snapshots from fp_ofp")
    yield
    running.sql("grant insert on ofp.snapshots to fp_ofp")


def an_unsafe_server(running: Running) -> Iterator[None]:
    name = psycopg.conninfo.conninfo_to_dict(running.dsn)["dbname"]
    running.sql(f"alter database {name} set synchronous_commit = off")
    close_thread_connections()
    yield
    running.sql(f"alter database {name} reset synchronous_commit")
    close_thread_connections()


FAULTS: list[tuple[Fault, str, str]] = [
    (a_dropped_index, f"catalogue {PLATFORM_DSN}", "gone: index ieg.edges.edges_by_entity"),
    (a_changed_column, f"catalogue {PLATFORM_DSN}", "changed: column ig.principals.active"),
    (a_stopped_bucket, "bucket fraud-platform", "object store"),
    (a_bucket_without_versions, "versions of bucket fraud-platform", "not kept"),
    (a_changed_policy_byte, "policy", "file"),
    (an_expired_key, "gate key client", "ended at"),
    (a_worker_of_another_version, "worker action_layer", "0.0.9+000000000000"),
    (a_group_split_on_the_servers, "dsn group DF_*", "DF_CHECKPOINT_DSN at"),
    (a_group_split_in_the_profile, "profile", "AL_* commit together"),
    (a_right_taken_away, f"roles {PLATFORM_DSN}", "fp_ofp may not write snapshots"),
    (an_unsafe_server, f"durability {PLATFORM_DSN}", "synchronous_commit off"),
]


@pytest.mark.parametrize(("fault", "named", "words"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_each_deviation_is_named_and_passes_again(running: Running, fault: Fault, named: str, words: str) -> None:
    """On real servers and a real store, one deviation after the other."""
    fails_and_passes_again(running, fault, named, words, one_round)


def files_with_files(environment: Environment) -> list[Check]:
    """The pass-through: migrations, packs, profile and policy as files, each found equal to itself."""
    return [replace(check, verdict=Verdict.PASS, observed=check.expected) for check in one_round(environment)]


@pytest.mark.parametrize(("fault", "named", "words"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_comparing_files_with_files_turns_the_fact_red(running: Running, fault: Fault, named: str, words: str) -> None:
    """The pass-through sees none of them."""
    with pytest.raises(AssertionError, match="is not seen"):
        fails_and_passes_again(running, fault, named, words, files_with_files)


def test_a_server_that_is_away_is_named_and_hides_nothing_else(running: Running) -> None:
    """Its own check fails; what cannot be asked there is UNKNOWN; the bucket and the workers are still looked at."""
    dead = psycopg.conninfo.make_conninfo(running.dsn, host="127.0.0.1", port=9)
    running.leads_elsewhere = {PLATFORM_DSN: dead}
    found = {check.check: check for check in one_round(running.environment())}
    running.leads_elsewhere = {}
    assert found[f"server {PLATFORM_DSN}"].verdict is Verdict.FAIL
    assert found["bucket fraud-platform"].verdict is Verdict.PASS
    assert found["worker action_layer"].verdict is Verdict.PASS
    assert found["policy"].verdict is Verdict.UNKNOWN


def test_the_worker_keeps_its_rounds_and_tells_changes(line: Line, running: Running) -> None:
    """A round is one row; a verdict that changes is a row of its own and stands in the heartbeat; the same again is none."""
    context = replace(
        line.context_for(environment_conformance.WORKER), database=running.database_of(PLATFORM_DSN),
    )  # fmt: skip
    worker = environment_conformance.Conformance(context, running.environment())

    def round_of_checks() -> None:
        while not worker.step().rest_seconds:
            pass

    def rows(statement: str) -> list[Any]:
        with psycopg.connect(running.dsn) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]

    round_of_checks()
    assert rows("select verdict from conformance.latest") == [("PASS",)]
    assert rows("select count(*) from conformance.changes") == [(0,)]
    running.beat("action_layer", "decision_lane", version="0.0.9+000000000000")
    for _ in range(2):
        round_of_checks()
    changes = 'select "check", verdict from conformance.changes order by sequence'
    assert rows(changes) == [("worker action_layer", "FAIL")]
    assert worker.detail() == {"conformance": {"verdict": "FAIL", "not_passed": ["worker action_layer"]}}
    running.beats()
    round_of_checks()
    assert rows(changes) == [("worker action_layer", "FAIL"), ("worker action_layer", "PASS")]
    assert worker.detail()["conformance"] == {"verdict": "PASS", "not_passed": []}


def test_the_gate_names_a_key_that_ended(line: Line) -> None:
    """An expired key is refused with 401 and the word for it; extended, it is accepted again."""
    with open_gate(line) as gate:
        line.sql(
            "update ig.principals set expires_at = now() - interval '1 second' where name = 'world_stream_producer'"
        )
        refused = gate.post(events_of([1], run=line.run))
        assert (refused.status, refused.body["error"]) == (401, "key_expired")
        line.sql("update ig.principals set expires_at = now() + interval '1 day'")
        line.clock.advance(10.0)
        assert gate.post(events_of([1], run=line.run)).statuses == ["ADMITTED"]
