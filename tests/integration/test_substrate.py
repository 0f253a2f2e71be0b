"""The embedded PostgreSQL and object store: real servers, secured, durable, and gone when they should be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from fraud_daemons.config.ports import choose_ports, is_free, port_holder
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.observability.process_identity import start_ticks
from fraud_daemons.supervision.substrate import objectstore, postgres, unprivileged
from fraud_daemons.supervision.substrate.objectstore import client_for, evidence_policy, start_store
from fraud_daemons.supervision.substrate.postgres import login_refusal, prepare_postgres, start_server


def test_a_login_needs_the_generated_password(postgres_server) -> None:
    """Every login over the private socket is by SCRAM; a wrong password is refused."""
    with psycopg.connect(postgres_server.dsn()) as connection:
        (method,) = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchone()
    assert method == "scram-sha-256"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn(password="wrong"))
    assert "password authentication failed" in login_refusal(postgres_server.directory, password="wrong")


def test_nothing_of_postgres_listens_on_tcp(postgres_server) -> None:
    """The server is reached through its socket only, in a folder that only we may enter."""
    with psycopg.connect(postgres_server.dsn()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert (postgres_server.directory / "pg").stat().st_mode & 0o077 == 0
    assert not (postgres_server.directory / "pg" / "initial_password").exists()


def test_durability_is_never_traded(postgres_server) -> None:
    """fsync, synchronous_commit and full_page_writes are on, text is UTF-8, time is UTC."""
    with psycopg.connect(postgres_server.dsn()) as connection:
        names = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding", "timezone", "max_connections")
        values = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]
    assert values == ["on", "on", "on", "UTF8", "UTC", "100"]


def test_an_empty_database_for_each_test(database) -> None:
    """The fixture gives a database without tables, owned by the platform's owner."""
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SELECT current_user").fetchone() == ("fp_owner",)


def test_rows_survive_a_kill_of_the_server(short_dir) -> None:
    """A committed row is there after SIGKILL of the postmaster and a new start on the same folder."""
    with start_server(short_dir) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        os.kill(server.pid, signal.SIGKILL)
    with start_server(short_dir, password=server.password) as again, psycopg.connect(again.dsn()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_tcp_on_request(short_dir) -> None:
    """A fault test may ask for loopback TCP, with the same need for a password."""
    port = choose_ports(short_dir, ["test_port"])["test_port"]
    with start_server(short_dir, tcp_port=port) as server, psycopg.connect(server.dsn()) as connection:
        assert connection.info.host == "127.0.0.1"
        assert str(server.pid) in (port_holder(port) or "")


def test_another_major_version_is_refused_with_the_way_out(short_dir) -> None:
    """A data directory of PostgreSQL 16 is not touched; the message says how to move the data."""
    (short_dir / "postgres").mkdir()
    (short_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 16.*pg_dumpall"):
        prepare_postgres(short_dir, password="x", connections_max=30)
    assert [p.name for p in (short_dir / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_first_start_cut_short_is_repeated(short_dir) -> None:
    """What a killed initdb left is thrown away, so the next start makes a whole cluster."""
    (short_dir / "postgres.new").mkdir()
    (short_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    prepare_postgres(short_dir, password="x", connections_max=30)
    assert (short_dir / "postgres" / "global" / "pg_control").is_file()


def test_a_path_too_long_for_a_socket_is_named(short_dir) -> None:
    """The refusal names the path, its length and the setting to change."""
    deep = short_dir / ("x" * 90)
    with pytest.raises(ConfigurationError, match=r"profile\.run_dir: the socket path .* bytes"):
        prepare_postgres(deep, password="x", connections_max=30)


def test_the_server_dies_with_its_parent(short_dir) -> None:
    """SIGKILL of the process that started PostgreSQL ends PostgreSQL too: no orphan."""
    code = (
        "import sys, pathlib, time\n"
        "from fraud_daemons.supervision.substrate.postgres import start_server\n"
        "with start_server(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(short_dir)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    _until(lambda: start_ticks(pid) is None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up root")
def test_without_user_namespaces_the_server_runs_as_nobody(short_dir, monkeypatch) -> None:
    """Where a container denies user namespaces, the data is handed to `nobody` and the server runs as that user."""
    for module in (postgres, unprivileged):
        monkeypatch.setattr(module, "way_down", lambda: "nobody")
    with start_server(short_dir) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 65534
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    locked = short_dir / "locked"
    locked.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=rf"nobody cannot enter {locked}"):
        prepare_postgres(locked / "run", password="x", connections_max=30)


def test_the_store_keeps_its_promises(object_store) -> None:
    """A conditional put has one winner; the writer reaches the evidence bucket and no other."""
    writer = client_for(object_store.endpoint, object_store.writer_access_key, object_store.writer_secret_key)
    writer.put_object(Bucket=object_store.bucket, Key="a/b", Body=b"first", IfNoneMatch="*")
    with pytest.raises(writer.exceptions.ClientError, match="PreconditionFailed"):
        writer.put_object(Bucket=object_store.bucket, Key="a/b", Body=b"second", IfNoneMatch="*")
    assert writer.get_object(Bucket=object_store.bucket, Key="a/b")["Body"].read() == b"first"
    with pytest.raises(writer.exceptions.ClientError, match="AccessDenied"):
        writer.create_bucket(Bucket="another")


def test_evidence_cannot_be_deleted_and_an_overwrite_is_another_version(object_store) -> None:
    """The writer deletes neither an object nor a version, alone or by the batch, nor ends what forbids it; what was
    overwritten without the condition is still there as an older version."""
    bucket, where = object_store.bucket, {"Bucket": object_store.bucket, "Key": "kept/1"}
    writer = client_for(object_store.endpoint, object_store.writer_access_key, object_store.writer_secret_key)
    writer.put_object(**where, Body=b"first", IfNoneMatch="*")
    (version,) = writer.list_object_versions(Bucket=bucket, Prefix="kept/1")["Versions"]
    suspended, other_policy = {"Status": "Suspended"}, json.dumps(evidence_policy("another"))
    for forbidden in (
        lambda: writer.delete_object(**where),
        lambda: writer.delete_object(**where, VersionId=version["VersionId"]),
        lambda: writer.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=suspended),
        lambda: writer.delete_bucket_policy(Bucket=bucket),
        lambda: writer.put_bucket_policy(Bucket=bucket, Policy=other_policy),
    ):
        with pytest.raises(writer.exceptions.ClientError, match="AccessDenied"):
            forbidden()
    (refused,) = writer.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "kept/1"}]})["Errors"]
    assert refused["Code"] == "AccessDenied"
    writer.put_object(**where, Body=b"second")
    versions = writer.list_object_versions(Bucket=bucket, Prefix="kept/1")["Versions"]
    bodies = [writer.get_object(**where, VersionId=found["VersionId"])["Body"].read() for found in versions]
    assert bodies == [b"second", b"first"]


@pytest.mark.parametrize(("databases", "limit"), [(1, "224MiB"), (8, "384MiB")])
def test_a_killed_store_finds_its_objects_again(short_dir, monkeypatch, databases, limit) -> None:
    """Names are in one database, or go on in the eight in which a version before has put them, with what these take."""
    with monkeypatch.context() as before:
        if databases == 8:
            before.setattr(objectstore, "_names_database", lambda _data: {})
        with start_store(short_dir) as store:
            where = {"Bucket": store.bucket, "Key": "kept/1"}
            client_for(store.endpoint, store.access_key, store.secret_key).put_object(**where, Body=b"first")
            os.kill(store.pid, signal.SIGKILL)
    with start_store(short_dir) as store:
        client = client_for(store.endpoint, store.access_key, store.secret_key)
        assert client.get_object(**where)["Body"].read() == b"first"
    assert len(list((short_dir / "objects").glob("filerldb*/**/CURRENT"))) == databases
    assert objectstore.store_environment(short_dir, memory_mib=224)["GOMEMLIMIT"] == limit


def test_an_older_version_in_between_finds_no_names_and_hides_none(short_dir, monkeypatch) -> None:
    """Started on a store with one database it makes its eight and finds nothing; this version then finds what it had put, and
    what the older one put is found when the one database is moved aside."""

    def put(name: str) -> set[str]:
        with start_store(short_dir) as store:
            client = client_for(store.endpoint, store.access_key, store.secret_key)
            found = {entry["Key"] for entry in client.list_objects_v2(Bucket=store.bucket).get("Contents", [])}
            client.put_object(Bucket=store.bucket, Key=name, Body=b"it")
        return found

    assert put("ours") == set()
    with monkeypatch.context() as before:
        before.setattr(objectstore, "_names_database", lambda _data: {})
        assert put("theirs") == set()
    assert put("ours/2") == {"ours"}
    (short_dir / "objects" / "filerldb").rename(short_dir / "filerldb.aside")
    assert put("later") == {"theirs"}


def test_the_store_refuses_strangers(object_store) -> None:
    """A wrong secret is refused."""
    stranger = client_for(object_store.endpoint, object_store.access_key, "wrong")
    with pytest.raises(stranger.exceptions.ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()


def test_the_store_listens_on_loopback_only_and_leaves_nothing(short_dir) -> None:
    """All its ports are loopback; after the stop they are free and no socket file stays in /tmp."""
    with start_store(short_dir) as store:
        ports = choose_ports(short_dir, [])
        wildcard = [
            line
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[1].startswith("00000000")
        ]
        listening = {int(line.split()[1].split(":")[1], 16) for line in wildcard}
        assert not listening & set(ports.values())
        pid = store.pid
    assert start_ticks(pid) is None
    assert all(is_free(port) for port in ports.values())
    strays = [path.name for path in Path("/tmp").glob("seaweedfs-*")]  # noqa: S108 - the store's own choice
    assert not [name for name in strays if any(str(port + 10_000) in name for port in ports.values())]


def _until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.02)
