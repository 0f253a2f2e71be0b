"""platform console: the link to the web page, with the token that opens it."""

from __future__ import annotations

from http import HTTPStatus

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.ports import chosen_port
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.errors import CommandError, ExitCode

ANSWER_SECONDS_MAX = 3.0
HOST = "127.0.0.1"


@click.command()
@invocation
def command(call: Invocation) -> int:
    """Print the console's link; whoever has it may look. 0 = it answers, 3 = it is not running."""
    profile = call.load_profile()
    token = read_secrets(profile.run_dir).get("console", {}).get("token")
    if not token:
        raise CommandError(
            "no token has been generated yet; run: platform up (an `up` of this version adds it)",
            exit_code=ExitCode.NOT_RUNNING,
        )
    port = chosen_port(profile, "console_port")
    address = f"http://{HOST}:{port}"
    if problem := _silence(port):
        raise CommandError(
            f"the console at {address} gives no answer ({problem}); see: platform status -v",
            exit_code=ExitCode.NOT_RUNNING,
        )
    link = f"{address}/#token={token}"
    metrics = f"curl -H 'Authorization: Bearer …' {address}/metrics"
    call.answer(
        {"url": link, "address": address, "metrics": f"{address}/metrics"},
        text=f"{link}\n\n  the link holds the token: who has it may look at everything\n  metrics: {metrics}",
    )
    return int(ExitCode.GOOD)


def _silence(port: int) -> str | None:
    """Why nobody answers there; None when somebody does."""
    import http.client

    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (TimeoutError, OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or type(error).__name__
    finally:
        connection.close()
    return None if status == HTTPStatus.OK else f"HTTP {status}"
