"""platform check: everything that can be known wrong before a start, each with what would be right.

One function per subject; each yields findings. All are reported together. Nothing is started, and nothing changed but
one probe object below `_check/` in the evidence bucket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import click

from fraud_daemons.cli import _check_servers
from fraud_daemons.cli._finding import Finding, judged, ok, wrong
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.packs import load_packs
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.errors import ConfigurationError, ExitCode, PlatformError
from fraud_daemons.observability.disk import disk_use, size_text
from fraud_daemons.supervision.deployment import Deployment


@click.command()
@invocation
def command(call: Invocation) -> int:
    """Look at everything without starting anything. 0 = good, 1 = something is wrong, 78 = profile or packs are wrong."""
    deployment = _deployment(call)
    findings = [ok("profile and pack files")]
    for subject in _SUBJECTS:
        findings += _contained(subject, deployment)
    bad = any(finding.problem for finding in findings)
    document = {"ok": not bad, "checks": [finding.to_json() for finding in findings]}
    call.answer(document, text="\n".join(str(finding) for finding in findings))
    return int(ExitCode.NO if bad else ExitCode.GOOD)


def _deployment(call: Invocation) -> Deployment:
    """Profile and packs; the problems of both in one ConfigurationError."""
    try:
        return call.deployment()
    except ConfigurationError as error:
        problems = list(error.problems)
        if error.source.startswith("profile "):  # the packs were not looked at
            try:
                load_packs(call.root)
            except ConfigurationError as more:
                problems += more.problems
        raise ConfigurationError(problems, source=error.source) from error


def _contained(subject: Callable[[Deployment], Iterator[Finding]], deployment: Deployment) -> Iterator[Finding]:
    """A subject that cannot be looked at is a finding too, and does not hide the next."""
    try:
        yield from subject(deployment)
    except ConfigurationError as error:
        yield from (wrong(error.source, problem) for problem in error.problems)
    except PlatformError as error:
        yield wrong(subject.__name__.strip("_"), str(error))


def _workers(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons import bootstrap

    for pack in deployment.packs:
        for worker in pack.workers:
            yield judged(f"worker {pack.name}/{worker}", _import_problem(bootstrap.load_worker, pack.name, worker))


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
    yield judged(f"run directory {folder}", None if writable else f"{existing} cannot be written; set profile.run_dir")
    use, wanted = disk_use(folder), deployment.profile.get("disk.free_bytes_min")
    enough = use.free_bytes >= wanted
    yield judged(
        "disk space", None if enough else f"{size_text(use.free_bytes)} free at {use.path}, {size_text(wanted)} wanted"
    )
    if folder.exists() and folder.stat().st_mode & 0o066:
        yield wrong("run directory is private", f"others may read {folder}; run: chmod 700 {folder}")
    read_secrets(folder)
    yield ok("secrets are private")


def _binaries(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons.supervision.substrate import binaries, postgres

    if deployment.profile.embedded_postgres:
        yield ok(f"PostgreSQL {binaries.POSTGRES_MAJOR} ({binaries.postgres_binary('postgres')})")
        postgres.check_cluster(deployment.run_dir)
        yield ok("database cluster and its socket path")
    if deployment.profile.embedded_objectstore:
        yield ok(f"object store ({binaries.weed_binary()})")


def _ports(deployment: Deployment) -> Iterator[Finding]:
    from fraud_daemons.supervision.client import SupervisorAbsent, SupervisorClient
    from fraud_daemons.supervision.substrate import service

    try:
        SupervisorClient(deployment.profile.socket_path).snapshot()
    except SupervisorAbsent:
        service.check_fixed_ports(deployment)
        yield ok("ports are free")
    else:
        yield ok("ports (the platform is up and holds its own)")


_SUBJECTS: tuple[Callable[[Deployment], Iterator[Finding]], ...] = (
    _workers,
    _paths,
    _binaries,
    _ports,
    _check_servers.connections,
    _check_servers.databases,
    _check_servers.bucket,
)
