"""The embedded S3-compatible object store, `weed mini`: identities, ports, command line, readiness by a real put and get.

Loopback only, no telemetry, and its inner HTTP doors shut (`-disableHttp`): they would need no credentials. Its data
survives SIGKILL; a put is not fsynced, so a power cut may cost the last seconds of evidence - rows that name the object
stay in PostgreSQL, and the next round puts it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_daemons.clock import SystemClock
from fraud_daemons.config.ports import GRPC_OFFSET, choose_ports
from fraud_daemons.config.secrets_file import generate_password
from fraud_daemons.errors import TransientFault
from fraud_daemons.supervision.substrate.binaries import weed_binary
from fraud_daemons.supervision.substrate.unprivileged import launch_command

PORT_NAMES = (
    "objectstore_port",
    "objectstore_master_port",
    "objectstore_volume_port",
    "objectstore_filer_port",
    "objectstore_admin_port",
)
PROBE_BUCKET = "platform-readiness"  # apart from the evidence, where nothing is ever overwritten
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 3.0  # it needs 2 s for a clean stop; when it takes longer it is killed, which it survives
LOG_NAME = "objectstore.log"
MEMORY_MIB = 224  # of it 137 are in use from the beginning; at less than some 160 it collects all the time
MEMORY_OF_EIGHT_MIB = 160  # what seven more databases of names take: write buffers, and as much room as before


@dataclass(frozen=True)
class StoreCredentials:
    """The two identities: the platform's own and the writer, which may read and write the evidence bucket only."""

    access_key: str
    secret_key: str
    writer_access_key: str
    writer_secret_key: str


def generate_credentials() -> StoreCredentials:
    """Fresh keys for a store that no profile owns."""
    return StoreCredentials(*(generate_password() for _ in range(4)))


def prepare_store(run_dir: Path, *, credentials: StoreCredentials, bucket: str) -> None:
    """Make the store's folders and write its identities (mode 0600); the store is not started."""
    for folder in (_data(run_dir), _sockets(run_dir)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _identities(run_dir)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(_identity_document(credentials, bucket), file, indent=1)


def store_command(run_dir: Path, *, ports: Mapping[str, int], lock: Path) -> list[str]:
    """The command line that runs the prepared store in the foreground."""
    port = [ports[name] for name in PORT_NAMES]
    flags = [
        f"-dir={_data(run_dir)}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        f"-s3.port={port[0]}", f"-master.port={port[1]}", f"-volume.port={port[2]}", f"-filer.port={port[3]}", f"-admin.port={port[4]}",
        "-volume.max=100", "-master.volumeSizeLimitMB=64", f"-s3.config={_identities(run_dir)}", "-s3.autoCreateBucket=false",
        f"-filer.localSocket={_sockets(run_dir) / 'filer'}", f"-s3.localSocket={_sockets(run_dir) / 's3'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-disableHttp=true",
    ]  # fmt: skip
    return launch_command([str(weed_binary()), "-logtostderr=true", "mini", *flags], lock=lock)


def store_environment(run_dir: Path, *, memory_mib: int) -> dict[str, str]:
    """What the store needs in its environment: Go's memory limit, and a home of its own.

    The limit alone says when garbage is collected: the heap is as large after a minute as after a month, and beyond the
    limit puts get slower, not larger. Of the limit 100 MB are buffers that are allocated whole and hardly filled, so what is
    resident is less. One thread runs Go code: its many parts wake each other all day, and over two threads that takes
    twice the CPU."""
    data = _data(run_dir)
    limit_mib = memory_mib + (MEMORY_OF_EIGHT_MIB if _has_eight_databases(data) else 0)
    return {
        "GOMEMLIMIT": f"{limit_mib}MiB", "GOGC": "off", "GOMAXPROCS": "1", "HOME": str(_sockets(run_dir)),
        **_names_database(data),
    }  # fmt: skip


def _names_database(data: Path) -> dict[str, str]:
    """Where the store keeps its objects' names: in one database, with a write buffer of 16 MB. It would take eight, for
    files by the billion; a store that has its names in eight keeps them there. A version that knows eight alone makes them
    beside our one, and finds no names: started here once, it must not hide ours."""
    if _has_eight_databases(data):
        return {}
    return {
        "WEED_LEVELDB2_ENABLED": "false", "WEED_LEVELDB_ENABLED": "true", "WEED_LEVELDB_DIR": str(data / "filerldb")
    }  # fmt: skip


def _has_eight_databases(data: Path) -> bool:
    return (data / "filerldb2" / "00").exists() and not (data / "filerldb").exists()


def remove_stray_sockets(ports: Mapping[str, int]) -> None:
    """Delete the sockets that the stopped store leaves in /tmp, whatever TMPDIR says; their names follow from its ports."""
    for name in PORT_NAMES:
        part = {"objectstore_port": "s3"}.get(name, name.split("_")[1])
        # the store's own choice of folder, not ours
        Path(f"/tmp/seaweedfs-{part}-grpc-{ports[name] + GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108


def client_for(endpoint: str, access_key: str, secret_key: str, *, region: str = "us-east-1") -> Any:
    """A boto3 client with short deadlines and no retries of its own."""
    import boto3  # 0.3 s: only who talks to the store pays for it
    from botocore.config import Config

    limits = Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 0}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=limits,
    )


def store_refusal(client: Any) -> str | None:
    """None when a real put and get pass, else what went wrong in one line."""
    from botocore.exceptions import BotoCoreError, ClientError

    body = os.urandom(16)
    try:
        _create_bucket(client, PROBE_BUCKET)
        client.put_object(Bucket=PROBE_BUCKET, Key="probe", Body=body)
        answer = client.get_object(Bucket=PROBE_BUCKET, Key="probe")["Body"].read()
    except (BotoCoreError, ClientError) as error:
        return str(error).splitlines()[0]
    return None if answer == body else "a get did not give back what was put"


def evidence_policy(bucket: str) -> dict[str, Any]:
    """Who may write may not delete an object or a version, nor end the keeping of versions: the store's right to write
    holds those rights. Only its owner can lift this; a batch delete of the owner's leaves every version under a marker."""
    denied = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutBucketVersioning"]
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Sid": "KeepEvidence", "Effect": "Deny", "Principal": "*", "Action": denied, "Resource": resources}
    return {"Version": "2012-10-17", "Statement": [statement]}


def create_bucket(client: Any, bucket: str) -> None:
    """Make the evidence bucket when it is not there, keep every version in it and let nobody delete.

    Raises TransientFault when the store refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _create_bucket(client, bucket)
        if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":  # before the policy, which denies it
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(evidence_policy(bucket)))
    except (BotoCoreError, ClientError) as error:
        raise TransientFault(f"object store: bucket {bucket} cannot be made: {error}") from error


def _create_bucket(client: Any, bucket: str) -> None:
    present = {entry["Name"] for entry in client.list_buckets().get("Buckets", [])}
    if bucket not in present:
        client.create_bucket(Bucket=bucket)


def _identity_document(credentials: StoreCredentials, bucket: str) -> dict[str, Any]:
    def identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}

    writer = [f"{action}:{bucket}" for action in ("Read", "Write", "List")]
    platform = ["Admin", "Read", "Write", "List", "Tagging"]
    return {
        "identities": [
            identity("platform", credentials.access_key, credentials.secret_key, platform),
            identity("writer", credentials.writer_access_key, credentials.writer_secret_key, writer),
        ]
    }


def _data(run_dir: Path) -> Path:
    return run_dir / "objects"


def _sockets(run_dir: Path) -> Path:
    return run_dir / "s3"  # a short name, because a socket's path has 107 bytes


def _identities(run_dir: Path) -> Path:
    return run_dir / "objectstore_identities.json"


@dataclass(frozen=True)
class ObjectStore:
    """A running embedded store that no supervisor watches: for tests and probes."""

    endpoint: str
    access_key: str
    secret_key: str
    writer_access_key: str
    writer_secret_key: str
    bucket: str
    region: str
    pid: int


@contextmanager
def start_store(
    directory: Path, *, bucket: str = "fraud-platform", memory_mib: int = MEMORY_MIB
) -> Iterator[ObjectStore]:
    """Run a store in `directory` until the block ends; it also ends when this process (its calling thread) does.

    Raises TransientFault when a real put and get do not pass in 30 s.
    """
    credentials = generate_credentials()
    prepare_store(directory, credentials=credentials, bucket=bucket)
    ports = choose_ports(directory, PORT_NAMES)
    endpoint = f"http://127.0.0.1:{ports['objectstore_port']}"
    with (directory / LOG_NAME).open("ab") as log:
        process = subprocess.Popen(
            store_command(directory, ports=ports, lock=directory / "objectstore.lock"),
            env={**os.environ, **store_environment(directory, memory_mib=memory_mib)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        client = client_for(endpoint, credentials.access_key, credentials.secret_key)
        _await_store(client, process, directory / LOG_NAME)
        create_bucket(client, bucket)
        yield ObjectStore(
            endpoint, credentials.access_key, credentials.secret_key, credentials.writer_access_key,
            credentials.writer_secret_key, bucket, "us-east-1", process.pid,
        )  # fmt: skip
    finally:
        _stop(process)
        remove_stray_sockets(ports)


def _await_store(client: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    clock, pause = SystemClock(), threading.Event()
    deadline = clock.monotonic() + START_SECONDS_MAX
    while refusal := store_refusal(client):
        if process.poll() is not None:
            raise TransientFault(f"object store left with {process.returncode} at start; its log is {log}")
        if clock.monotonic() > deadline:
            raise TransientFault(f"object store gives no put and get after {START_SECONDS_MAX:g} s: {refusal}")
        clock.wait(0.05, pause)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        print(f"object store {process.pid} did not stop in {STOP_SECONDS_MAX:g} s; killing it", file=sys.stderr)
        process.kill()
        process.wait()
