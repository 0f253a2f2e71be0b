"""platform status: one line per pack, honest about what does not work, why and since when. Target: 0.3 s."""

from __future__ import annotations

import sys
import threading

import click

from fraud_daemons.cli.options import Invocation, invocation, targets_argument
from fraud_daemons.clock import SystemClock
from fraud_daemons.errors import ExitCode
from fraud_daemons.status.picture import READY, PlatformPicture, narrowed
from fraud_daemons.status.rendering import coloured, plain, render
from fraud_daemons.supervision import overview, watcher
from fraud_daemons.supervision.deployment import Deployment

WATCH_SECONDS = 1.0
_CLEAR = "\x1b[H\x1b[2J"


@click.command()
@targets_argument()
@click.option("-v", "--verbose", is_flag=True, help="One line per worker too.")
@click.option("--watch", is_flag=True, help="Draw again every second, until Ctrl-C.")
@invocation
def command(call: Invocation, *, targets: tuple[str, ...], verbose: bool, watch: bool) -> int:
    """Is it really working? 0 = everything running ready, 1 = not, 3 = not running, 4 = cannot be known."""
    deployment = call.deployment()
    deployment.workers(targets)  # refuses a name that is neither pack nor worker
    code = _show(call, deployment, targets, verbose=verbose, clear=watch)
    pause = threading.Event()
    while watch and not SystemClock().wait(WATCH_SECONDS, pause):
        code = _show(call, deployment, targets, verbose=verbose, clear=True)
    return code


def _show(call: Invocation, deployment: Deployment, targets: tuple[str, ...], *, verbose: bool, clear: bool) -> int:
    picture, running = overview.look(deployment, clock=SystemClock())
    if targets:
        picture = narrowed(picture, targets)
    on_terminal = sys.stdout.isatty()
    text = render(picture, workers=verbose, paint=coloured if on_terminal else plain)
    if not running:
        text += "\n\n  not running; start it with: platform up"
    call.answer(picture.to_json(), text=(_CLEAR if clear and on_terminal else "") + text)
    return int(_code(picture, running=running))


def _code(picture: PlatformPicture, *, running: bool) -> ExitCode:
    if not running:
        return ExitCode.NOT_RUNNING
    if picture.supervisor is not None and picture.supervisor.status != watcher.RUNNING:
        return ExitCode.UNKNOWN  # shown is what is known without it
    return ExitCode.GOOD if picture.verdict == READY else ExitCode.NO
