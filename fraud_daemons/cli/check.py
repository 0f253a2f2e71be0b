"""platform check: everything that can be known wrong before a start, each with what would be right.

One function per subject; each yields (what was looked at, None or what is wrong). Nothing is changed and nothing started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.errors import ConfigurationError, ExitCode, PlatformError
from fraud_daemons.supervision.deployment import Deployment

Finding = tuple[str, str | None]
FREE_BYTES_MIN = 1 << 30
CONNECTIONS_PER_WORKER = 2  # its loop and its listener


@click.command()
@invocation
def command(call: Invocation) -> int:
    """Look at profile, packs, workers, ports, paths, binaries, connections and databases without starting anything."""
    deployment = call.deployment()  # profile and pack files: all their problems at once, exit 78
    findings: list[Finding] = [("profile and pack files", None)]
    for subject in (_workers, _paths, _binaries, _ports, _connections, _databases):
        findings += _contained(subject, deployment)
    wrong = [finding for finding in findings if finding[1]]
    document = {
        "ok": not wrong,
        "checks": [{"check": what, "ok": problem is None, "problem": problem} for what, problem in findings],
    }
    call.answer(document, text="\n".join(_line(what, problem) for what, problem in findings))
    return int(ExitCode.NO if wrong else ExitCode.GOOD)


def _line(what: str, problem: str | None) -> str:
    return f"  ok     {what}" if problem is None else f"  WRONG  {what}: {problem}"


def _contained(subject: Callable[[Deployment], Iterator[Finding]], deployment: Deployment) -> Iterator[Finding]:
    """A subject that cannot be looked at is a finding too, and does not hide the next."""
    try:
        yield from subject(deployment)
    except ConfigurationError as error:
        yield from ((error.source, problem) for problem in error.problems)
    except PlatformError as error:
        yield subject.__name__.strip("_"), str(error)


def _workers(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons import bootstrap

    for pack in deployment.packs:
        for worker in pack.workers:
            yield f"worker {pack.name}/{worker}", _import_problem(bootstrap.load_worker, pack.name, worker)


def _import_problem(load: Callable[[str, str], object], pack: str, worker: str) -> str | None:
    try:
        load(pack, worker)
    except ConfigurationError as error:
        return error.problems[0]
    except Exception as error:  # a worker's file may raise anything when imported, and that is what is asked here
        return f"cannot be imported: {type(error).__name__}: {error}"
    return None


def _paths(deployment: Deployment) -> Iterator[Finding]:
    folder = deployment.run_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(existing, os.W_OK | os.X_OK)
    yield f"run directory {folder}", None if writable else f"{existing} cannot be written; set profile.run_dir"
    free = shutil.disk_usage(existing).free
    enough = free >= FREE_BYTES_MIN
    yield "disk space", None if enough else f"{free >> 20} MiB free at {existing}, {FREE_BYTES_MIN >> 20} MiB wanted"
    if folder.exists() and folder.stat().st_mode & 0o066:
        yield "run directory is private", f"others may read {folder}; run: chmod 700 {folder}"


def _binaries(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons.supervision.substrate import binaries, postgres

    if deployment.profile.embedded_postgres:
        yield f"PostgreSQL {binaries.POSTGRES_MAJOR} ({binaries.postgres_binary('postgres')})", None
        postgres.check_cluster(deployment.run_dir)
        yield "database cluster", None
    if deployment.profile.embedded_objectstore:
        yield f"object store ({binaries.weed_binary()})", None


def _ports(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorClient
    from fraud_daemons.supervision.substrate import service

    try:
        SupervisorClient(deployment.profile.socket_path).snapshot()
    except SupervisorAbsent:
        service.check_fixed_ports(deployment)
        yield "ports are free", None
    else:
        yield "ports (the platform is up and holds its own)", None


def _connections(deployment: Deployment) -> Iterator[Finding]:
    get = deployment.profile.get
    workers = len(deployment.workers())
    needed = workers * CONNECTIONS_PER_WORKER + get("gate.threads") + get("database.connections_reserve")
    allowed = get("database.connections_max")
    what = f"connections: {workers} workers x {CONNECTIONS_PER_WORKER} + {get('gate.threads')} gate threads + reserve = {needed} of {allowed}"
    yield what, None if needed < allowed else f"set database.connections_max above {needed}, or fewer gate.threads"


def _databases(deployment: Deployment) -> Iterator[Finding]:
    """Every DSN the profile names: one login each, with SQLSTATE when refused. The embedded server has none to check."""
    dsns = deployment.profile.dsns
    if not dsns:
        return
    from fraud_daemons.postgres_runtime.connector import (
        DsnSource,
        close_thread_connections,
        postgres_threadlocal_connection,
    )

    for name, dsn in dsns.items():
        try:
            with postgres_threadlocal_connection(DsnSource(name, lambda dsn=dsn: dsn)) as connection:  # type: ignore[misc]
                connection.execute("SELECT 1")
        except PlatformError as error:
            yield name, str(error)
        else:
            yield name, None
    close_thread_connections()
