"""console: a web page on loopback, and metrics, for whoever looks after the platform.

It shows what `platform status` says, from the same function, and what the tables say, in transactions that are read only. It
keeps nothing, changes nothing and answers nobody without the token (`platform console` prints the link). Beside it, a
hook tells one receiver when a worker is in trouble. The parts are in `fraud_daemons/console/`.
"""

from __future__ import annotations

from functools import partial

from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.console.access import Access
from fraud_daemons.console.board import Board
from fraud_daemons.console.hook import Hook
from fraud_daemons.console.status import StatusWatch
from fraud_daemons.console.tables import TablesWatch
from fraud_daemons.console.web import HOST, ConsoleApp
from fraud_daemons.errors import ConfigurationError
from fraud_daemons.runtime.activity import Activity
from fraud_daemons.runtime.service import HttpService
from fraud_daemons.runtime.worker import Worker, WorkerContext

THREADS_BESIDE_PAGES = 3
"""For the page's parts, a scraper and the service's own probe, while every page that may be open is open."""
BODY_BYTES_MAX = 4096


def build(context: WorkerContext) -> list[Activity]:
    """The service first: who looks is answered also while something is away."""
    if context.look_at_platform is None:
        raise ConfigurationError(["start it with: platform worker run console"], source="console")
    get, clock, run_dir = context.profile.get, context.clock, context.profile.run_dir
    board, access = Board(clock), Access(context.read_secrets, clock)
    pages_max = get("console.pages_max")
    service = HttpService(
        ConsoleApp(board, access, pages_max=pages_max, clock=clock, log=context.log),
        host=HOST,
        port=context.port_of("console"),
        threads=pages_max + THREADS_BESIDE_PAGES,
        body_bytes_max=BODY_BYTES_MAX,
        health_path="/healthz",
        another_port=partial(context.another_port, "console"),
    )
    hook = _hook(context)
    status = StatusWatch(
        board, context.look_at_platform, run_dir=run_dir, clock=clock, tell=hook.notice if hook else None
    )
    tables = TablesWatch(board, context.database_of, clock=clock, posture_pin=get("decision.posture_pin"))
    # status first when it closes: it sends the open pages home, and the service waits for them
    return [status, service, tables]


def _hook(context: WorkerContext) -> Hook | None:
    get = context.profile.get
    if not get("alerts.hook_url"):
        return None
    return Hook(
        get("alerts.hook_url"),
        after_seconds=get("alerts.hook_after_seconds"),
        timeout_seconds=get("alerts.hook_timeout_seconds"),
        read_secrets=context.read_secrets,
        told=context.profile.path("alerts.json"),
        clock=context.clock,
        log=context.log,
    )


WORKER = Worker(name="console", schema="console", dsn=PLATFORM_DSN, build=build, observes=True)
