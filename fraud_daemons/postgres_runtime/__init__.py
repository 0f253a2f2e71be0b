"""PostgreSQL as every worker meets it: one connector, one fault table, migrations; no tables of its own.

`postgres_threadlocal_connection` is the only way to a connection: one per (process, thread, DSN, options), reused,
closed in its transaction at scope exit. `connecting` decides when a session is opened, `diagnosis` finds why one was
refused, `faults` judges by SQLSTATE and by the connection's state, `deadline` ends every wait, `scope_watch` tells who
holds a scope too long. Nobody else may call `psycopg.connect` (a tidy test holds that).
"""

from fraud_daemons.postgres_runtime.connector import (
    ConnectOptions,
    DsnSource,
    counters,
    postgres_threadlocal_connection,
)

__all__ = ["ConnectOptions", "DsnSource", "counters", "postgres_threadlocal_connection"]
