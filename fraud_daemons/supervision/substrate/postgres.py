"""The embedded PostgreSQL: makes its cluster, writes its settings, gives its command line, tells whether it serves.

Reached through a unix socket in a private folder; it listens on TCP only when a test asks for it. Every login needs its
password (scram-sha-256). Durability is never traded: fsync, synchronous_commit and full_page_writes stay on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraud_daemons.clock import SystemClock
from fraud_daemons.config.embedded import OWNER_ROLE, SOCKET_PORT, embedded_dsn, socket_folder
from fraud_daemons.config.secrets_file import generate_password
from fraud_daemons.errors import ConfigurationError, TransientFault
from fraud_daemons.supervision.substrate.binaries import POSTGRES_MAJOR, postgres_binary
from fraud_daemons.supervision.substrate.unprivileged import hand_over, launch_command, way_down

SOCKET_PATH_BYTES_MAX = 107  # sun_path less its closing zero
INITDB_SECONDS_MAX = 60.0
LOGIN_SECONDS_MAX = 5.0
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
STOP_SIGNAL = "INT"  # fast shutdown in 20 ms; TERM would wait for clients for ever


@dataclass(frozen=True)
class PostgresPaths:
    """The files of one embedded server below a run directory."""

    run_dir: Path

    @property
    def data(self) -> Path:
        return self.run_dir / "postgres"

    @property
    def socket_folder(self) -> Path:
        return socket_folder(self.run_dir)

    @property
    def settings(self) -> Path:
        return self.data / "platform.conf"

    @property
    def access(self) -> Path:
        return self.data / "platform_hba.conf"

    @property
    def logs(self) -> Path:
        """Folder of the server's own log: `postgresql-<weekday>.json`, one JSON object a line."""
        return self.run_dir / "postgres_logs"


def prepare_postgres(run_dir: Path, *, password: str, connections_max: int, tcp_port: int = 0) -> PostgresPaths:
    """Make the cluster when there is none and write its settings; the server is not started.

    Raises ConfigurationError for a data directory of another PostgreSQL major version, a socket path that is too long,
    and when nothing lets us run it (as root without user namespaces).
    """
    paths = PostgresPaths(run_dir)
    check_cluster(run_dir)
    for folder in (paths.socket_folder, paths.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not paths.data.exists():
        _initialise(paths, password)
    paths.settings.write_text(_settings(paths, connections_max=connections_max, tcp_port=tcp_port))
    paths.access.write_text(_access(tcp=bool(tcp_port)))
    hand_over([paths.data, paths.socket_folder, paths.logs], binary=postgres_binary("postgres"))
    return paths


def check_cluster(run_dir: Path) -> None:
    """Raises ConfigurationError for a socket path that is too long or a cluster of another major version."""
    paths = PostgresPaths(run_dir)
    _check_socket_path(paths.socket_folder / f".s.PGSQL.{SOCKET_PORT}")
    _check_major(paths.data)


def postgres_command(run_dir: Path, *, lock: Path) -> list[str]:
    """The command line that runs the prepared server in the foreground."""
    paths = PostgresPaths(run_dir)
    server = [str(postgres_binary("postgres")), "-D", str(paths.data), "-c", f"config_file={paths.settings}"]
    return launch_command(server, lock=lock, death_signal=STOP_SIGNAL, unprivileged=way_down())


def login_refusal(run_dir: Path, *, password: str, user: str = OWNER_ROLE, port: int = SOCKET_PORT) -> str | None:
    """None when the server accepts a login and answers a query, else what it said, in one line."""
    # psql and not the driver: `up` and the tests need no psycopg, and this login is nobody's session for longer than 20 ms
    environment = {"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "3", "PATH": os.defpath}
    target = f"host={socket_folder(run_dir)} port={port} dbname=postgres user={user}"
    command = [str(postgres_binary("psql")), "-XAtw", "-d", target, "-c", "select 1"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LOGIN_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {LOGIN_SECONDS_MAX:g} s"
    if done.returncode == 0:
        return None
    return done.stderr.strip().splitlines()[-1].strip() if done.stderr.strip() else f"psql left with {done.returncode}"


def _check_socket_path(path: Path) -> None:
    length = len(str(path).encode())
    if length > SOCKET_PATH_BYTES_MAX:
        problem = (
            f"profile.run_dir: the socket path {path} has {length} bytes, {SOCKET_PATH_BYTES_MAX} fit;"
            " set profile.run_dir (or PLATFORM_PROFILE_RUN_DIR) to a shorter folder"
        )
        raise ConfigurationError([problem], source="substrate")


def _check_major(data: Path) -> None:
    version_file = data / "PG_VERSION"
    major = version_file.read_text().strip() if version_file.exists() else str(POSTGRES_MAJOR)
    if major != str(POSTGRES_MAJOR):
        problem = (
            f"{data} was made by PostgreSQL {major}, this platform runs {POSTGRES_MAJOR}; dump it with `pg_dumpall` of {major} and"
            f" load the dump into a fresh data directory, or run pg_upgrade, or move the folder away to begin anew"
        )
        raise ConfigurationError([problem], source="substrate")


def _initialise(paths: PostgresPaths, password: str) -> None:
    # made beside and renamed: a kill half-way leaves no cluster that looks finished
    unfinished = paths.data.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password_file = paths.socket_folder / "initial_password"
    password_file.write_text(password + "\n")
    hand_over([unfinished, paths.socket_folder], binary=postgres_binary("initdb"))
    command = [
        str(postgres_binary("initdb")), "-D", str(unfinished), "-U", OWNER_ROLE, f"--pwfile={password_file}",
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    ]  # fmt: skip
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            launch_command(command, unprivileged=way_down()),
            env=environment, capture_output=True, text=True, timeout=INITDB_SECONDS_MAX, check=False,
        )  # fmt: skip
    finally:
        password_file.unlink()
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise ConfigurationError([f"initdb failed with {done.returncode}: {said}"], source="substrate")
    unfinished.rename(paths.data)


def _settings(paths: PostgresPaths, *, connections_max: int, tcp_port: int) -> str:
    values: dict[str, object] = {
        # who may reach it
        "listen_addresses": "127.0.0.1" if tcp_port else "",
        "port": tcp_port or SOCKET_PORT,
        "unix_socket_directories": paths.socket_folder,
        "unix_socket_permissions": "0700",
        "hba_file": paths.access,
        "password_encryption": "scram-sha-256",
        "max_connections": connections_max,
        # durability: as strong as the disk allows
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # memory and checkpoints for steady batch writes: rare, spread-out checkpoints and smaller full-page images
        "shared_buffers": "128MB",
        "wal_compression": "on",
        "max_wal_size": "2GB",
        "min_wal_size": "256MB",
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": 0.9,
        # short set-based statements: planning cost and helper processes would only be in the way
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "random_page_cost": 1.1,
        "io_method": "sync",
        # look-ups by keys that are all different: remembering answers only costs, a fifth of such a join
        "enable_memoize": "off",
        # heads and checkpoints are rewritten in every transaction: keep their tables small
        "autovacuum_naptime": "15s",
        # tables that are only appended to: every look-up is by key, so a coarse and seldom sample plans as well; at the
        # defaults a growing log was sampled 30,000 bodies at a time, seven per cent of the machine
        "default_statistics_target": 10,
        "autovacuum_analyze_scale_factor": 1.0,
        "autovacuum_vacuum_insert_scale_factor": 1.0,
        # tells a dead peer and a forgotten transaction from a slow one, whatever the client set
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 3,
        "tcp_keepalives_count": 3,
        # its own log, one JSON object a line with SQLSTATE; seven files, each truncated after a week; no statements, no values
        "logging_collector": "on",
        "log_destination": "jsonlog",
        "log_directory": paths.logs,
        "log_filename": "postgresql-%a.log",
        "log_file_mode": "0600",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_truncate_on_rotation": "on",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
    return (
        "# Written by the platform at every start; changes here are lost. Use the profile.\n" + "\n".join(lines) + "\n"
    )


def _access(*, tcp: bool) -> str:
    lines = ["# Written by the platform at every start: every login needs its password.", "local all all scram-sha-256"]
    # replication over the same socket: pg_basebackup of `platform backup`
    lines.append("local replication all scram-sha-256")
    if tcp:
        lines.append("host all all 127.0.0.1/32 scram-sha-256")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class PostgresServer:
    """A running embedded server that no supervisor watches: for tests and probes."""

    directory: Path
    password: str
    pid: int
    tcp_port: int = 0

    def dsn(self, dbname: str = "postgres", *, user: str = OWNER_ROLE, password: str | None = None) -> str:
        """Connection string over the private socket, or over loopback TCP when a port was asked for."""
        text = embedded_dsn(self.directory, user=user, password=password or self.password, dbname=dbname)
        if not self.tcp_port:
            return text
        host = str(socket_folder(self.directory))
        return text.replace(f"host='{host}'", "host='127.0.0.1'").replace(
            f"port='{SOCKET_PORT}'", f"port='{self.tcp_port}'"
        )


@contextmanager
def start_server(
    directory: Path, *, password: str | None = None, connections_max: int = 60, tcp_port: int = 0
) -> Iterator[PostgresServer]:
    """Run a server in `directory` until the block ends; it also ends when this process (its calling thread) does.

    `directory` plays the run directory. Give the password again to reopen an existing cluster.
    Raises TransientFault when it does not accept a login in 30 s.
    """
    password = password or generate_password()
    prepare_postgres(directory, password=password, connections_max=connections_max, tcp_port=tcp_port)
    process = subprocess.Popen(
        postgres_command(directory, lock=directory / "postgres.lock"), stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _await_login(directory, password, process, port=tcp_port or SOCKET_PORT)
        yield PostgresServer(directory=directory, password=password, pid=process.pid, tcp_port=tcp_port)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS_MAX)


def _await_login(directory: Path, password: str, process: subprocess.Popen[bytes], *, port: int) -> None:
    clock, pause = SystemClock(), threading.Event()
    deadline = clock.monotonic() + START_SECONDS_MAX
    socket = socket_folder(directory) / f".s.PGSQL.{port}"
    refusal: str | None = "its socket has not appeared"
    while refusal:
        if process.poll() is not None:
            raise TransientFault(
                f"postgres left with {process.returncode} at start; its log is in {directory / 'postgres_logs'}"
            )
        if clock.monotonic() > deadline:
            raise TransientFault(f"postgres does not accept a login after {START_SECONDS_MAX:g} s: {refusal}")
        if socket.exists():
            refusal = login_refusal(directory, password=password, port=port)
        clock.wait(0.02, pause)
