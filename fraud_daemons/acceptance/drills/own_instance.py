"""A platform of a drill's own: a run directory that is thrown away, PostgreSQL over TCP, the same packs and workers.

For faults that no ordinary platform has a place for: the network between workers and server, the number of ports. It is
driven by the command, as an operator would; nothing of the caller's platform is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraud_daemons.config.dsns import NAMES
from fraud_daemons.config.embedded import DATABASE_NAME
from fraud_daemons.config.ports import free_port
from fraud_daemons.config.profiles import Profile, load_profile
from fraud_daemons.errors import CommandError
from fraud_daemons.postgres_runtime.connector import ConnectOptions, DsnSource
from fraud_daemons.runtime.database import Database
from fraud_daemons.supervision.substrate.postgres import PostgresServer, start_server
from fraud_daemons.supervision.survivors import end_survivors

CONNECTIONS_MAX = 100
COMMAND_SECONDS_MAX = 300


@dataclass
class OwnInstance:
    """One platform of a drill's own. `environment` is what its commands and workers are told."""

    profile: Profile
    server: PostgresServer
    environment: dict[str, str] = field(repr=False)

    def call(self, *words: str, timeout_seconds: float = COMMAND_SECONDS_MAX) -> tuple[int, dict[str, Any]]:
        """`platform WORDS… --json`: exit code and what it printed."""
        where = ["--profile", self.profile.name, "--root", str(self.profile.root), "--json"]
        command = [sys.executable, "-m", "fraud_daemons.cli.main", *words, *where]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        try:
            document = json.loads(done.stdout)
        except ValueError:
            document = {"error": (done.stderr or done.stdout).strip()[-500:]}
        return done.returncode, document

    def must(self, *words: str) -> dict[str, Any]:
        """As `call`, and it must go well. Raises CommandError with its own words."""
        code, document = self.call(*words)
        if code:
            raise CommandError(f"drill: platform {' '.join(words)}: exit {code}: {document.get('error', document)}")
        return document


@contextmanager
def own_instance(profile: Profile, *, settings: Mapping[str, str]) -> Iterator[OwnInstance]:
    """A server that serves and a profile that leads to it; nothing else is started. All of it is gone at the end.

    `settings`: environment for its workers.
    """
    folder = Path(tempfile.mkdtemp(prefix="fpd"))
    try:
        with ExitStack() as stack:
            server = stack.enter_context(
                start_server(folder / "db", connections_max=CONNECTIONS_MAX, tcp_port=free_port())
            )
            _make_database(server)
            environment = _environment(folder / "run", server, settings)
            told = load_profile(profile.name, root=profile.root, environment=environment)
            instance = OwnInstance(told, server, environment)
            try:
                yield instance
            finally:
                instance.call("down")
                end_survivors(folder / "run")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_database(server: PostgresServer) -> None:
    options = ConnectOptions(application_name="platform/drill/create")
    with Database(DsnSource("the drill's server", server.dsn), options).scope() as connection:
        connection.autocommit = True
        connection.execute(f"create database {DATABASE_NAME}")


def _environment(run_dir: Path, server: PostgresServer, settings: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PLATFORM_", "WSP_", "PG")) and name not in NAMES
    }
    return {
        **kept,
        "PLATFORM_DSN": server.dsn(DATABASE_NAME),
        "PLATFORM_PROFILE_RUN_DIR": str(run_dir),
        "PLATFORM_GATE_PORT": "0",
        "PLATFORM_DECISION_POSTURE_PIN": "NORMAL",
        "PLATFORM_PROFILE_DRILLS": "true",
        **settings,
    }
