"""supervisord.conf from packs and profile: a pack is a group, a worker a program, nothing in it is secret.

Every program waits for `up` (autostart off): supervisord itself knows no order of readiness.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from fraud_daemons.config.dsns import NAMES
from fraud_daemons.config.ports import read_ports
from fraud_daemons.errors import ExitCode
from fraud_daemons.supervision import audit
from fraud_daemons.supervision.deployment import POSTGRES, RUN_DIR_VARIABLE, SUBSTRATE, Deployment
from fraud_daemons.supervision.substrate import objectstore, postgres
from fraud_daemons.supervision.substrate.unprivileged import launch_command

CRASH_LOG_BYTES_MAX = 1_048_576
ENGINE_LOG_BYTES_MAX = 5_242_880
FILES_OPEN_MIN = 1024
SPAWN_RETRIES_MAX = 10  # a fork or exec that fails, with 1, 2, 3 … s between; deaths are the plugin's matter

# The environment of supervisord and its children, by name. PYTHONWARNINGS is left out on purpose: as "error" it
# silences supervisord's RPC. PG* are left out because they would bend every connection.
_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "NO_PROXY",
)
_KEPT_FOR_DRILLS = ("LD_PRELOAD", "DONT_FAKE_MONOTONIC")  # a clock that a drill may step
_KEPT_PREFIXES = ("LC_", "PLATFORM_", "WSP_", "AWS_", "COVERAGE_")


def render(deployment: Deployment) -> str:
    """The whole configuration file."""
    sections = [_engine(deployment)]
    if deployment.services:
        sections += [_service(deployment, name) for name in deployment.services]
        sections.append(_group(SUBSTRATE, deployment.services, priority=1))
    for priority, pack in enumerate(deployment.packs, start=10):
        sections += [_worker(deployment, worker, drain_seconds=pack.drain_seconds) for worker in pack.workers]
        sections.append(_group(pack.name, pack.workers, priority=priority))
    return "\n\n".join(sections) + "\n"


def child_environment(deployment: Deployment, environment: Mapping[str, str]) -> dict[str, str]:
    """What supervisord and its children get of our environment, and the mark by which survivors are found."""
    drills = deployment.profile.get("profile.drills")
    kept = {
        name: value
        for name, value in environment.items()
        if name in _KEPT
        or name in NAMES
        or name.startswith(_KEPT_PREFIXES)
        or (drills and (name in _KEPT_FOR_DRILLS or name.startswith("FAKETIME")))
    }
    return {**kept, RUN_DIR_VARIABLE: str(deployment.run_dir), "PYTHONUNBUFFERED": "1"}


def _engine(deployment: Deployment) -> str:
    run_dir, get = deployment.run_dir, deployment.profile.get
    return "\n\n".join(
        [
            _section("unix_http_server", file=deployment.profile.socket_path, chmod="0700"),
            _section(
                "supervisord",
                logfile=run_dir / "logs" / "supervisord.log",
                logfile_maxbytes=ENGINE_LOG_BYTES_MAX,
                logfile_backups=2,
                pidfile=run_dir / "supervisord.pid",
                directory=deployment.profile.root,
                identifier=deployment.profile.name,
                nodaemon="true",  # `up` gives it a session of its own
                silent="true",
                umask="077",
                nocleanup="true",
                minfds=FILES_OPEN_MIN,
            ),
            _factory("supervisor", "supervisor.rpcinterface:make_main_rpcinterface"),
            _factory(
                "platform",
                "fraud_daemons.supervision.plugin:make_plugin",
                audit=run_dir / audit.FILE_NAME,
                run_dir=run_dir,
                watchdog_seconds=get("loop.watchdog_seconds"),
                deaths_max=get("supervision.deaths_max"),
                deaths_window_seconds=get("supervision.deaths_window_seconds"),
                patience_seconds=get("supervision.patience_seconds"),
            ),
        ]
    )


def _factory(name: str, target: str, **options: object) -> str:
    return _section(f"rpcinterface:{name}", **{"supervisor.rpcinterface_factory": target}, **options)


def _service(deployment: Deployment, name: str) -> str:
    lock, run_dir = deployment.lock(name), deployment.run_dir
    if name == POSTGRES:
        command = postgres.postgres_command(run_dir, lock=lock)
        seconds = postgres.STOP_SECONDS_MAX
        return _program(deployment, name, command, stopsignal=postgres.STOP_SIGNAL, stopwaitsecs=seconds)
    ports = {**read_ports(run_dir)}
    if fixed := deployment.profile.get("objectstore.port"):
        ports["objectstore_port"] = fixed
    command = objectstore.store_command(run_dir, ports=ports, lock=lock)
    environment = objectstore.store_environment(run_dir, memory_mib=deployment.profile.get("objectstore.memory_mib"))
    return _program(deployment, name, command, stopwaitsecs=objectstore.STOP_SECONDS_MAX, environment=environment)


def _worker(deployment: Deployment, worker: str, *, drain_seconds: float) -> str:
    command = launch_command(deployment.worker_command(worker), lock=deployment.lock(worker))
    return _program(deployment, worker, command, stopwaitsecs=drain_seconds)


def _program(
    deployment: Deployment,
    name: str,
    command: Sequence[str],
    *,
    stopwaitsecs: float,
    stopsignal: str = "TERM",
    environment: Mapping[str, str] | None = None,
) -> str:
    extra = {"environment": ",".join(f'{key}="{value}"' for key, value in environment.items())} if environment else {}
    return _section(
        f"program:{name}",
        command=shlex.join(command),
        directory=deployment.profile.root,
        autostart="false",
        autorestart="unexpected",
        # 78: the configuration is wrong and no restart can help; it is held until `platform resume`
        exitcodes=f"{ExitCode.GOOD.value},{ExitCode.CONFIGURATION.value}",
        startsecs=0,  # supervisord's own idea of "too quickly" has neither cap nor jitter; the plugin has
        startretries=SPAWN_RETRIES_MAX,
        stopsignal=stopsignal,
        stopwaitsecs=round(stopwaitsecs),
        stopasgroup="true",
        killasgroup="true",
        umask="077",
        redirect_stderr="true",
        stdout_logfile=deployment.crash_log(name),
        stdout_logfile_maxbytes=CRASH_LOG_BYTES_MAX,
        stdout_logfile_backups=1,
        **extra,
    )


def _group(name: str, programs: Sequence[str], *, priority: int) -> str:
    return _section(f"group:{name}", programs=",".join(programs), priority=priority)


def _section(title: str, **settings: object) -> str:
    # supervisord expands %(name)s in values
    lines = [f"{name} = {str(value).replace('%', '%%')}" for name, value in settings.items()]
    return "\n".join([f"[{title}]", *lines])
