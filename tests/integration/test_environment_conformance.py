"""environment_conformance on real parts: each deviation is a named FAIL with expected, observed and remedy, and PASS again
when it is mended. The pass-through compares files with files, and must miss every one of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.policies import read_policy
from fraud_daemons.conformance.environment import Check, Environment, Verdict, worst
from fraud_daemons.conformance.rounds import one_round
from fraud_daemons.postgres_runtime.connector import close_thread_connections
from fraud_daemons.status.picture import ProcessState
from fraud_daemons.supervision.substrate.objectstore import ObjectStore
from fraud_daemons.supervision.substrate.postgres import PostgresServer
from fraud_daemons.workers.obs_gov import environment_conformance
from tests.gate import events_of, open_gate
from tests.integration.standing_environment import Running, a_process, provisioned
from tests.line import Line


@pytest.fixture(scope="module")
def running(postgres_server: PostgresServer, object_store: ObjectStore) -> Iterator[Running]:
    """What `platform up` leaves, without the processes: checks ask servers, store and heartbeats. Each test mends."""
    with tempfile.TemporaryDirectory(prefix="fp", dir="/tmp") as folder:
        yield from provisioned(postgres_server, object_store, Path(folder) / "run", Path(folder) / "project")


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
    running.beat("action_layer", "decision_lane")


def a_killed_worker_that_is_held(running: Running) -> Iterator[None]:
    with a_process() as process:
        running.beat("action_layer", "decision_lane", pid=process.pid)
    running.processes["action_layer"] = ProcessState(
        "action_layer", "decision_lane", "exited", exit_code=-9, held=True, reason="crash loop: 21 deaths"
    )
    yield
    running.beat("action_layer", "decision_lane")


def a_stopped_worker(running: Running) -> Iterator[None]:
    with a_process() as process:
        running.beat("action_layer", "decision_lane", pid=process.pid)
    running.processes["action_layer"] = ProcessState("action_layer", "decision_lane", "stopped")
    yield
    running.beat("action_layer", "decision_lane")


def a_copy_by_hand_beside_a_stopped_worker(running: Running) -> Iterator[None]:
    with a_process() as process:
        running.beat("action_layer", "decision_lane", pid=process.pid)
        running.processes["action_layer"] = ProcessState("action_layer", "decision_lane", "stopped")
        yield
    running.beat("action_layer", "decision_lane")


def a_pid_that_came_again(running: Running) -> Iterator[None]:
    path = running.run_dir / "beats" / "action_layer.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "start_ticks": before["start_ticks"] - 1}))
    yield
    running.beat("action_layer", "decision_lane")


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
    (a_killed_worker_that_is_held, "worker action_layer", "which is gone; now held (crash loop: 21 deaths)"),
    (a_stopped_worker, "worker action_layer", "which is gone; now stopped"),
    (a_copy_by_hand_beside_a_stopped_worker, "worker action_layer", "which supervision does not run; now stopped"),
    (a_pid_that_came_again, "worker action_layer", "which is gone; now running failing (no heartbeat yet)"),
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


def test_a_worker_that_starts_is_not_known_yet_and_passes_with_its_first_beat(running: Running) -> None:
    """The file is of the process before: no PASS, and no FAIL for as long as a start may take; the first beat settles it."""
    path = running.run_dir / "beats" / "action_layer.json"
    before = path.read_text()
    with a_process() as process:
        running.beat("action_layer", "decision_lane", pid=process.pid)
        first = path.read_text()
        path.write_text(before)
        running.processes["action_layer"] = replace(running.processes["action_layer"], uptime_seconds=1.0)
        found = {check.check: check for check in one_round(running.environment())}["worker action_layer"]
        assert (found.verdict, found.observed) == (
            Verdict.UNKNOWN,
            f"pid {process.pid} starts and has not beaten yet",
        )
        path.write_text(first)
        assert worst(one_round(running.environment())) is Verdict.PASS
    running.beat("action_layer", "decision_lane")


def test_what_a_dead_decider_last_said_is_no_policy_that_decides(running: Running) -> None:
    """Its process is gone: by what it decided is its last word, and nobody decides by it."""
    told = {"policy": read_policy(running.root, "baseline").identity()}
    with a_process() as process:
        running.beat("decision_fabric", "decision_lane", pid=process.pid, detail=told)
        assert worst(one_round(running.environment())) is Verdict.PASS
    running.processes["decision_fabric"] = ProcessState("decision_fabric", "decision_lane", "stopped")
    found = {check.check: check for check in one_round(running.environment())}
    running.beats()
    assert (found["policy"].verdict, found["worker decision_fabric"].verdict) == (Verdict.UNKNOWN, Verdict.FAIL)


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
