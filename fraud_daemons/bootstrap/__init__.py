"""The composition root: the only place that names concrete adapters.

`run_worker` puts one worker together and turns its loop; `provision` brings the substrate to what the code expects;
`database_for` and `evidence_store` serve the commands.
"""

from fraud_daemons.bootstrap.databases import (
    DATABASE_NAME,
    connections_allowed,
    database_for,
    dsn_problems,
    dsn_source,
    operator_bus,
    operator_database,
    owner_database,
    owner_dsn,
    same_server,
    servers,
)
from fraud_daemons.bootstrap.process import find_worker, load_worker, run_worker
from fraud_daemons.bootstrap.provision import SCHEMAS, begin_run, pending, provision
from fraud_daemons.bootstrap.stores import evidence_store, s3_settings
from fraud_daemons.config.dsns import Server
from fraud_daemons.config.topics import TOPICS

__all__ = [
    "DATABASE_NAME",
    "SCHEMAS",
    "TOPICS",
    "Server",
    "begin_run",
    "connections_allowed",
    "database_for",
    "dsn_problems",
    "dsn_source",
    "evidence_store",
    "find_worker",
    "load_worker",
    "operator_bus",
    "operator_database",
    "owner_database",
    "owner_dsn",
    "pending",
    "provision",
    "run_worker",
    "s3_settings",
    "same_server",
    "servers",
]
