"""Database sessions as the server counts and shows them: never a worker's word on its own connections."""

from __future__ import annotations

from dataclasses import dataclass

from fraud_daemons.postgres_runtime.connector import Connection


@dataclass(frozen=True)
class Session:
    """One client session. `age_seconds` since it was opened, `state_seconds` since its state changed, both by the
    server's clock; `begun` tells two sessions of one backend pid apart."""

    pid: int
    begun: str
    name: str
    state: str
    age_seconds: float
    state_seconds: float

    @property
    def identity(self) -> tuple[int, str]:
        return self.pid, self.begun


@dataclass(frozen=True)
class ServerSessions:
    """One look: what clients ever opened to this database, how sessions ended badly, and who is there now.

    `counted_from` = when the server's counters began; they begin anew after a crash. `hidden` = how many sessions are there
    of which the asking role may not see more; they are not in `sessions`."""

    opened: int
    ended_badly: int
    deadlocks: int
    counted_from: str
    sessions: tuple[Session, ...]
    hidden: int = 0


def look(connection: Connection) -> ServerSessions:
    """Sessions of this database, the asking one left out. Without pg_read_all_stats those of other roles are hidden."""
    row = connection.execute(
        "select sessions::bigint, (sessions_abandoned + sessions_fatal + sessions_killed)::bigint, deadlocks::bigint,"
        " coalesce(stats_reset, pg_postmaster_start_time())::text || ' ' || pg_postmaster_start_time()::text,"
        " (select count(*)::int from pg_stat_activity a where a.datname = d.datname"
        "   and a.usesysid is not null and a.backend_type is null)"  # the server's own helpers have no user
        " from pg_stat_database d where datname = current_database()"
    ).fetchone()
    assert row is not None  # noqa: S101 - the database that answers is in its own list
    rows = connection.execute(
        "select pid, backend_start::text, application_name, coalesce(state, 'hidden'),"
        " extract(epoch from clock_timestamp() - backend_start)::float8,"
        " coalesce(extract(epoch from clock_timestamp() - state_change), 0)::float8 from pg_stat_activity"
        " where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
        " order by backend_start, pid"
    ).fetchall()
    return ServerSessions(row[0], row[1], row[2], row[3], tuple(Session(*each) for each in rows), row[4])
