"""An own PostgreSQL and object store instead of ours: nothing embedded starts, and no secret leaves its place.

Both are real servers that the platform knows by DSN and endpoint only, as it would know a company's.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fraud_daemons.config.ports import free_port
from fraud_daemons.errors import ExitCode
from fraud_daemons.supervision.substrate.objectstore import ObjectStore, start_store
from fraud_daemons.supervision.substrate.postgres import PostgresServer, start_server
from tests.system.platform_under_test import PlatformUnderTest, wait_until

PASSWORD = "outside-password-7f3a91"
SMALL_PACKS = "case_labels,obs_gov"
SECRET_FILES = {"secrets.json", "objectstore_identities.json"}


@dataclass
class Outside:
    """Somebody else's servers, and platforms that use them."""

    folder: Path
    server: PostgresServer
    store: ObjectStore

    def database(self, name: str, *, options: str = "") -> str:
        """A database with an owner of its own that is no superuser; its DSN."""
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(f"create role {name} login password '{PASSWORD}' {options}")
            connection.execute(f"create database {name} owner {name}")
        return f"postgresql://{name}:{PASSWORD}@127.0.0.1:{self.server.tcp_port}/{name}"

    def platform(self, name: str, **environment: str) -> PlatformUnderTest:
        """A platform in a run directory of its own, told of the store and of what `environment` says."""
        return PlatformUnderTest(
            self.folder / name,
            environment={
                "PLATFORM_OBJECTSTORE_ENDPOINT": self.store.endpoint,
                "AWS_ACCESS_KEY_ID": self.store.access_key,
                "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
                **environment,
            },
        )


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """A PostgreSQL on loopback TCP and an object store, each in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fp", dir="/tmp"))
    try:
        with ExitStack() as stack:
            server = stack.enter_context(start_server(folder / "db", connections_max=80, tcp_port=free_port()))
            (folder / "s").mkdir()
            store = stack.enter_context(start_store(folder / "s"))
            yield Outside(folder, server, store)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def brought_down() -> Iterator[list[PlatformUnderTest]]:
    """Platforms put in here are taken down whatever happens."""
    platforms: list[PlatformUnderTest] = []
    yield platforms
    for platform in platforms:
        platform.call("down")
        platform.kill_what_is_left()


def _embedded(platform: PlatformUnderTest) -> list[str]:
    """Commands of database and store processes that carry this platform's mark."""
    return [command for _, command in platform.processes() if "postgres" in command.split()[0] or "weed" in command]


def _leaks(platform: PlatformUnderTest, secrets: set[str]) -> list[str]:
    """Where a secret stands that has no business there: command lines, status, files of the run directory."""
    places = {f"argv of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in platform.processes()}
    places["status"] = platform.call("status", "-v").stdout.encode() + platform.call("status", "--json").stdout.encode()
    places["check"] = platform.call("check").stdout.encode()
    for path in platform.run_dir.rglob("*"):
        if path.is_file() and path.name not in SECRET_FILES:
            places[str(path.relative_to(platform.run_dir))] = path.read_bytes()
    return [f"{place}" for place, content in places.items() for secret in secrets if secret.encode() in content]


def _secrets(platform: PlatformUnderTest, outside: Outside) -> set[str]:
    generated = json.loads((platform.run_dir / "secrets.json").read_text())
    values = {value for family in generated.values() for value in family.values()}
    return values | {PASSWORD, outside.store.secret_key, outside.store.access_key}


def test_the_whole_line_on_servers_of_ones_own(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """All packs come up on a DSN whose user may create roles, a stream passes the report, nothing embedded runs, and no
    secret stands in a command line, a log, the status or a file that is not for secrets."""
    dsn = outside.database("roles_created", options="createrole")
    platform = outside.platform("all", PLATFORM_DSN=dsn)
    brought_down.append(platform)
    assert platform.up()["ready"]
    status = platform.status()
    assert status["verdict"] == "running ready"
    assert status["substrate"] == []
    assert _embedded(platform) == []
    elsewhere = PlatformUnderTest(platform.run_dir)  # another shell, which does not know the DSN
    assert elsewhere.status()["verdict"] == "running ready"
    checks = platform.say("check")
    assert checks["ok"]
    assert all(check["ok"] for check in checks["checks"]), "with servers outside nothing stays unchecked"
    run = platform.new_run()
    assert platform.status()["platform_run_id"] == run
    platform.make_world("demo", 40)
    assert platform.stream("demo", "--max-events-per-output", "20")["verdict"] == "PASS"
    with psycopg.connect(dsn) as connection:
        users = {row[0] for row in connection.execute("select distinct usename from pg_stat_activity")}
    assert "fp_case_trigger" in users, "with roles = create each component logs in as its own role"
    secrets = _secrets(platform, outside)
    assert len(secrets) > 20
    assert {"status", "supervisord.conf"} <= set(_leaks(platform, {"case_trigger"})), "the search finds what is there"
    assert _leaks(platform, secrets) == []
    assert platform.down()["down"]


@pytest.mark.slow
def test_acceptance_on_a_server_whose_log_is_not_ours(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """Eight gates PASS, PostgreSQL judged by its activity views; with a session killed meanwhile the scan alone is red, in
    the server's own number; with the right to look taken away the two gates that need it say that they could not measure."""
    dsn = outside.database("accepted", options="createrole")
    with psycopg.connect(outside.server.dsn(), autocommit=True) as owner:
        owner.execute("grant pg_read_all_stats to accepted with admin option")
    platform = outside.platform("accepted", PLATFORM_DSN=dsn)
    brought_down.append(platform)
    platform.up()
    good = _accept(platform)
    assert [gate["gate"] for gate in good.values() if gate["verdict"] != "PASS"] == [], good
    assert good["recurrence_scan"]["covered"]["postgres"].startswith("PostgreSQL by its activity views (")
    before = platform.status()["platform_run_id"]
    with psycopg.connect(dsn) as victim, psycopg.connect(outside.server.dsn("accepted"), autocommit=True) as owner:
        killer = threading.Thread(target=_kill_once_it_streams, args=(owner, victim.info.backend_pid, before))
        killer.start()
        killed = _accept(platform)
        killer.join()
        victim.close()
    red = {gate["gate"]: gate["observed"] for gate in killed.values() if gate["verdict"] != "PASS"}
    assert red == {"recurrence_scan": "the servers count 1 sessions that ended badly, 0 deadlocks"}
    with psycopg.connect(outside.server.dsn(), autocommit=True) as owner:
        owner.execute("revoke pg_read_all_stats from fp_operator granted by accepted")
    hidden = _accept(platform)
    assert {gate["gate"]: gate["measured"] for gate in hidden.values() if gate["verdict"] != "PASS"} == {
        "liveness_idle_hold": False,
        "connections_bounded": False,
    }
    assert all("hides" in hidden[name]["observed"] for name in ("liveness_idle_hold", "connections_bounded"))


def _accept(platform: PlatformUnderTest) -> dict[str, dict[str, Any]]:
    """The gates of a short acceptance, by name."""
    gates = platform.say("accept", "--hold-seconds", "4", "--streaming-seconds", "6", codes=(0, 1, 4))["gates"]
    return {gate["gate"]: gate for gate in gates}


def _kill_once_it_streams(owner: psycopg.Connection, pid: int, before: str) -> None:
    """A session that has nothing to do with the platform is ended once a run after `before` has a stream."""
    streaming = "select count(*) from wsp.streams where platform_run_id > %s"
    wait_until(lambda: owner.execute(streaming, (before,)).fetchone() != (0,), seconds=60, what="the stream of a gate")
    owner.execute("select pg_terminate_backend(%s, 5000)", (pid,))


def test_with_roles_given(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """With roles = given everybody works as the user of the DSN, who needs no right to create roles."""
    dsn = outside.database("roles_given")
    platform = outside.platform(
        "given", PLATFORM_DSN=dsn, PLATFORM_DATABASE_ROLES="given", PLATFORM_PROFILE_PACKS=SMALL_PACKS
    )
    brought_down.append(platform)
    assert platform.up()["ready"]
    with psycopg.connect(outside.server.dsn()) as connection:
        found = connection.execute(
            "select distinct usename from pg_stat_activity where datname = 'roles_given' and application_name like '%/%/%'"
        ).fetchall()
    assert found == [("roles_given",)]


def test_a_user_who_may_not_create_roles(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """roles = create with a user who may not is refused with the SQLSTATE, exit code 78, and no pack starts."""
    platform = outside.platform("denied", PLATFORM_DSN=outside.database("may_not"), PLATFORM_PROFILE_PACKS=SMALL_PACKS)
    brought_down.append(platform)
    refused = platform.call("up")
    assert refused.returncode == ExitCode.CONFIGURATION
    assert "42501" in refused.stderr
    assert "database.roles" in refused.stderr
    assert all(worker["pid"] is None for worker in platform.workers().values())


def test_a_wrong_password(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """up refuses a wrong DSN password at once with 28P01, starting nothing; check says the same; a worker that is started
    by hand waits out the grace and leaves with 78."""
    dsn = outside.database("wrong_password").replace(PASSWORD, "not-the-password")
    platform = outside.platform(
        "wrong", PLATFORM_DSN=dsn, PLATFORM_DATABASE_ROLES="given", PLATFORM_PROFILE_PACKS=SMALL_PACKS
    )
    brought_down.append(platform)
    refused = platform.call("up", timeout=20)
    assert refused.returncode == ExitCode.CONFIGURATION
    assert "28P01" in refused.stderr
    assert platform.processes() == []
    checked = platform.call("check")
    assert checked.returncode == ExitCode.NO
    assert "28P01" in checked.stdout
    worker = platform.call("worker", "run", "case_trigger", timeout=40)
    assert worker.returncode == ExitCode.CONFIGURATION
    assert "config: postgres: 28P01" in worker.stderr
    assert "not-the-password" not in refused.stderr + checked.stdout + worker.stderr


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "not-the-key"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
        ({"PLATFORM_OBJECTSTORE_BUCKET": "no-such-bucket"}, "NoSuchBucket"),
    ],
)
def test_a_store_that_refuses(
    outside: Outside, brought_down: list[PlatformUnderTest], environment: dict[str, str], code: str
) -> None:
    """A wrong key and a bucket that is not there are told apart by the store's own code, by up and by check."""
    platform = outside.platform("refused", **environment, PLATFORM_PROFILE_PACKS=SMALL_PACKS)
    brought_down.append(platform)
    refused = platform.call("up", timeout=20)
    assert refused.returncode == ExitCode.CONFIGURATION
    assert code in refused.stderr
    assert platform.processes() == []
    checked = platform.call("check")
    assert checked.returncode == ExitCode.NO
    assert code in checked.stdout


def test_a_store_that_is_away(outside: Outside, brought_down: list[PlatformUnderTest]) -> None:
    """up waits for an endpoint that does not answer, until its deadline, and names it with the reason; nothing starts."""
    platform = outside.platform(
        "away", PLATFORM_OBJECTSTORE_ENDPOINT=f"http://127.0.0.1:{free_port()}", PLATFORM_PROFILE_PACKS=SMALL_PACKS
    )
    brought_down.append(platform)
    refused = platform.call("up", "--timeout", "3", timeout=30)
    assert refused.returncode == ExitCode.NO
    assert "objectstore is not serving (object store away" in refused.stderr
    assert platform.processes() == []
