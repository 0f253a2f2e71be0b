"""The producer as a process of its own, to be killed: `python -m tests.producer_process DSN RUN_DIR GATE_PORT`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from fraud_daemons.errors import TransientFault
from fraud_daemons.workers.control_ingress.world_stream_producer import WORKER
from tests.line import Line


def main() -> NoReturn:
    """Step until killed."""
    dsn, run_dir, port = sys.argv[1:]

    def no_store() -> NoReturn:
        raise AssertionError("the producer writes no evidence")

    line = Line(dsn, run_dir=Path(run_dir), make_store=no_store)
    line.ports["gate"] = int(port)
    line.secrets = {"gate": {"producer_key": os.environ["GATE_KEY"]}}
    activities = line.activities(WORKER, settings={"producer.round_transactions_max": 30})
    while True:
        for activity in activities:
            try:
                activity.step()
            except TransientFault:
                activity.forget()
        line.clock.advance(0.01)
        time.sleep(0.001)


if __name__ == "__main__":
    main()
