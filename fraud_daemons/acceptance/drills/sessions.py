"""PostgreSQL serves and says no: no slot left, another password, read only, a lock in the way, a session ended by a timeout."""

from __future__ import annotations

import signal
from contextlib import ExitStack

from psycopg import sql

from fraud_daemons.acceptance.drills.drill import Drill, own_postgres
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.bootstrap import database_for
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.config.secrets_file import generate_password, read_secrets, write_secrets
from fraud_daemons.errors import TransientFault
from fraud_daemons.postgres_runtime.connector import Connection, close_thread_connections
from fraud_daemons.postgres_runtime.provisioning import OPERATOR

HOT_TABLES = (("bus", "heads"), ("bus", "log"), ("df", "decisions"), ("checkpoints", "positions"), ("ig", "admissions"))
ROLES = ("fp_ig", "fp_csfb", "fp_ofp", "fp_df", "fp_al", "fp_dla", "fp_case_trigger", "fp_case_mgmt", "fp_label_store")
SLOTS_SECONDS_MAX = 20.0
CATCH_SECONDS_MAX = 20.0
KILLED_SECONDS_MAX = 15.0
_THEIRS = "application_name like '%%/%%/%%' and application_name not like 'platform/%%'"
"""Sessions of workers: `pack/worker/pid`."""


def _slots_exhausted(stage: Stage) -> None:
    """Somebody else takes every slot that an ordinary role may have, those of the workers too."""
    try:
        with ExitStack() as held, stage.owner_statements() as owner:
            ends = stage.clock.monotonic() + SLOTS_SECONDS_MAX
            while stage.clock.monotonic() < ends:
                _take_what_is_free(stage, held)
                if not _terminate(owner, _THEIRS):
                    break
            stage.faults += 1
            stage.fired["workers_without_session"] += len(stage.workers())
            stage.rest()
    finally:
        close_thread_connections()  # the connector keeps what a scope gives back; these must go


def _take_what_is_free(stage: Stage, held: ExitStack) -> None:
    while stage.fired["slots_taken"] < stage.profile.get("database.connections_max"):
        name = f"platform/drill-slot/{stage.fired['slots_taken']}"
        try:
            held.enter_context(database_for(stage.profile, PLATFORM_DSN, role=OPERATOR, application_name=name).scope())
        except TransientFault as fault:
            stage.fired["refused_53300"] += "53300" in fault.reason
            return
        stage.fired["slots_taken"] += 1


def _terminate(owner: Connection, which: str) -> int:
    """End sessions; how many there were."""
    row = owner.execute(
        f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {which} and pid <> pg_backend_pid()"
    ).fetchone()
    return int(row[0]) if row else 0


def _password_rotated(stage: Stage) -> None:
    """The server has another password before our file has: whoever holds a session loses it and is refused until then."""
    role, password = stage.dice.choice(ROLES), generate_password()
    secrets = read_secrets(stage.profile.run_dir)
    before, refused_before = secrets["postgres"][role], stage.server_log_states()["28P01"]
    with stage.owner_statements() as owner:
        _set_password(owner, role, password)
        try:
            stage.faults += 1
            stage.fired["sessions_ended"] += _terminate(owner, f"usename = '{role}'")
            stage.rest()
            stage.fired["refused_28p01"] += stage.server_log_states()["28P01"] - refused_before
        except BaseException:
            _set_password(owner, role, before)
            raise
    secrets["postgres"][role] = password
    write_secrets(stage.profile.run_dir, secrets)
    stage.figures["role"] = role


def _set_password(owner: Connection, role: str, password: str) -> None:
    owner.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(password)))


def _read_only(stage: Stage) -> None:
    """Every new transaction is read only, as on a primary that became a standby."""
    before = stage.server_log_states()["25006"]
    with stage.owner_statements() as owner:
        try:
            stage.faults += 1
            owner.execute("alter system set default_transaction_read_only = on")
            owner.execute("select pg_reload_conf()")
            stage.rest()
        finally:
            owner.execute("alter system reset default_transaction_read_only")
            owner.execute("select pg_reload_conf()")
    stage.fired["refused_25006"] += stage.server_log_states()["25006"] - before


def _lock_held(stage: Stage) -> None:
    """An exclusive lock on a table that everybody writes."""
    table = stage.dice.choice(HOT_TABLES)
    with stage.owner() as owner:
        owner.execute("set local idle_in_transaction_session_timeout = 0")
        owner.execute("set local lock_timeout = '20s'")
        owner.execute("set local default_transaction_read_only = off")
        owner.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*table)))
        stage.faults += 1
        ends = stage.clock.monotonic() + stage.seconds
        while stage.clock.monotonic() < ends:
            row = owner.execute("select count(*) from pg_locks where not granted").fetchone()
            stage.fired["seen_blocked"] += int(row[0]) if row else 0
            stage.rest(0.25)
    stage.figures["table"] = ".".join(table)


def _idle_in_transaction(stage: Stage) -> None:
    """A worker is frozen in the middle of a transaction, longer than the server allows: its session is ended (25P03)."""
    before = stage.server_log_states()["25P03"]
    with stage.owner_statements() as owner:
        caught = stage.wait_for(
            lambda: _catch_in_transaction(stage, owner), seconds=CATCH_SECONDS_MAX, what="a worker in a transaction"
        )
    worker, pid = caught
    stage.figures["worker"] = worker
    try:
        stage.wait_for(
            lambda: stage.server_log_states()["25P03"] > before,
            seconds=KILLED_SECONDS_MAX,
            what="25P03 in the server's log",
        )
        stage.fired["ended_25p03"] += stage.server_log_states()["25P03"] - before
    finally:
        stage.signal(pid, signal.SIGCONT)


_IN_TRANSACTION = (
    f"select pid, application_name from pg_stat_activity where {_THEIRS} and state = 'idle in transaction' limit 1"
)


def _catch_in_transaction(stage: Stage, owner: Connection) -> tuple[str, int] | None:
    """Freeze a worker whose session is between two statements of a transaction; None when it was quicker."""
    row = owner.execute(_IN_TRANSACTION.replace("%%", "%")).fetchone()
    if row is None:
        return None
    session, (_, worker, pid) = row[0], row[1].split("/")
    stage.signal(int(pid), signal.SIGSTOP)
    stage.rest(0.1)
    again = owner.execute("select state from pg_stat_activity where pid = %s", (session,)).fetchone()
    if again and again[0] == "idle in transaction":
        stage.faults += 1
        stage.fired["frozen_in_transaction"] += 1
        return worker, int(pid)
    stage.signal(int(pid), signal.SIGCONT)
    return None


DRILLS = (
    Drill("slots-exhausted", "somebody takes every connection slot", _slots_exhausted, ("slots_taken", "refused_53300", "workers_without_session"),
          needs=own_postgres),
    Drill("password-rotated", "a worker's password changes in the server, later in our file", _password_rotated,
          ("sessions_ended", "refused_28p01"), needs=own_postgres),
    Drill("read-only", "the database is read only (default_transaction_read_only)", _read_only, ("refused_25006",),
          needs=own_postgres),
    Drill("lock-held", "an exclusive lock is held on a hot table", _lock_held, ("seen_blocked",), seconds=7.0,
          needs=own_postgres),
    Drill("idle-in-transaction", "the server ends the session of a worker that is frozen in a transaction",
          _idle_in_transaction, ("frozen_in_transaction", "ended_25p03"), seconds=7.0, needs=own_postgres),
)  # fmt: skip
