"""PostgreSQL as every worker meets it: one connector, one fault table, migrations; no tables of its own.

`postgres_threadlocal_connection` is the only way to a connection: one per (process, thread, DSN, options), reused,
closed in its transaction at scope exit, judged by SQLSTATE and by its own state. Nobody else may call
`psycopg.connect` (a tidy test holds that).
"""

from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    counters,
    postgres_threadlocal_connection,
)

__all__ = ["ConnectOptions", "DsnSource", "counters", "postgres_threadlocal_connection"]
