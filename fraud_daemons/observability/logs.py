"""Log set-up: JSON lines into a rotated file that the worker itself owns.

Not through the supervisor's pipe: a frozen supervisor would block a chatty worker within 64 KiB, and a killed one
would break its prints. stdout and stderr are left for crash text. A full disk loses log lines, never the worker.
"""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import orjson
import structlog

Logger = structlog.stdlib.BoundLogger


def open_worker_log(path: Path, *, level: str, file_bytes_max: int, files_max: int, worker: str, pack: str) -> Logger:
    """The logger of one worker: JSON lines in `path`, rotated at `file_bytes_max`, `files_max` files kept."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=file_bytes_max, backupCount=files_max, delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.raiseExceptions = False  # a line that cannot be written is lost, not printed into the crash log
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("boto3", "botocore", "urllib3", "waitress", "yoyo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logger: Logger = structlog.get_logger(worker).bind(worker=worker, pack=pack)
    return logger


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()
