"""Where the embedded substrate of a run directory is reached. Nothing secret is stored here; passwords are passed in."""

from __future__ import annotations

from pathlib import Path

DATABASE_NAME = "fraud_platform"
OWNER_ROLE = "fp_owner"
SOCKET_PORT = 5432  # names the socket file only; nothing listens on TCP


def socket_folder(run_dir: Path) -> Path:
    """The private folder of PostgreSQL's unix socket."""
    return run_dir / "pg"


def embedded_dsn(run_dir: Path, *, user: str, password: str, dbname: str = DATABASE_NAME) -> str:
    """libpq connection string of the embedded PostgreSQL over its private socket."""
    fields = {
        "host": str(socket_folder(run_dir)),
        "port": str(SOCKET_PORT),
        "user": user,
        "password": password,
        "dbname": dbname,
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
