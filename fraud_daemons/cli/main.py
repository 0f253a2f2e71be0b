"""The `platform` command: finds a command's file, runs it, turns faults into one line and an exit code."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

import click

from fraud_daemons import __version__
from fraud_daemons.cli.options import remember_group_options
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode, PlatformError, TransientFault

# Name -> its line in the help, in the order a newcomer needs them. The file is cli/<name>.py, exposing `command`.
COMMANDS: dict[str, str] = {
    "up": "Start everything, in order, and wait until it is ready.",
    "down": "Drain and stop everything; nothing is left running.",
    "status": "One line per pack: is it really working, and if not, why and since when.",
    "start": "Start packs or workers.",
    "stop": "Drain and stop packs or workers.",
    "restart": "Drain, stop, start, wait until ready.",
    "resume": "Release what is held after a configuration fault.",
    "logs": "Logs of one or all.",
    "events": "Every start, stop and restart, and its cause.",
    "check": "Everything that can be known wrong before a start.",
    "run": "Begin a run, list past runs.",
    "world": "Worlds: generated and imported.",
    "stream": "Stream a world through the platform.",
    "report": "The run report: every record accounted for.",
    "accept": "The whole acceptance sequence: eight gates on a fresh run.",
    "conformance": "The running environment against its profile and packs.",
    "trace": "One event's whole way.",
    "deadletters": "Poisonous records, with their reasons; redrive or skip them.",
    "receipts": "Was it admitted, and what does the evidence say.",
    "quarantine": "What the gate refused, and why; through again after a mend.",
    "keys": "Who may send what to the gate: list, issue, rotate, withdraw keys.",
    "decisions": "Decisions and their reasons.",
    "cases": "The queue of cases.",
    "labels": "What became known, and when; assert, export.",
    "graph": "Who was seen with whom.",
    "archive": "Every topic as objects, and whether they are all there.",
    "explain": "Why a transaction was decided as it was, for a person.",
    "replay": "A run's decisions again, from the archive alone.",
    "policy": "Policies: check one, activate one.",
    "posture": "Pin or release the posture.",
    "console": "The link to the web page.",
    "backup": "The embedded data in one file.",
    "restore": "A backup back into its place.",
    "bench": "The benchmark, beside its yardsticks.",
    "drill": "A named fault with its verdict; only on profiles marked for drills.",
    "worker": "Run one worker in the foreground.",
}
# A file may not be called like a module of the standard library.
_FILE_OF = {"trace": "trace_event"}
_INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a command's file only when that command is called: `platform status` pays for nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        file = _FILE_OF.get(name, name)
        module = f"fraud_daemons.cli.{file}"
        if name.startswith("_") or file in ("main", "options", "supervised", "following"):
            return None
        try:
            command = importlib.import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            return _missing(name) if name in COMMANDS else None
        assert isinstance(command, click.Command)  # noqa: S101 - a command file exposes a click command
        command.name = name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _missing(name: str) -> click.Command:
    def refuse(**_: Any) -> None:
        file = f"fraud_daemons/cli/{_FILE_OF.get(name, name)}.py"
        raise CommandError(f"platform {name}: not in this build ({file} is missing)", exit_code=ExitCode.USAGE)

    settings = {"ignore_unknown_options": True}
    return click.Command(name, callback=refuse, params=[click.Argument(["_"], nargs=-1)], context_settings=settings)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="platform")
@remember_group_options
def platform() -> None:
    """A real-time card-fraud platform of supervised daemons.

    Begin with `platform up`, then `platform status`. Exit codes: 0 good, 1 the answer is no, 2 usage, 3 not running,
    4 cannot be reached or known, 70 bug, 78 configuration.
    """


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o077)  # whatever a command makes - worlds, ports, hints - is the operator's own
    raise SystemExit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        code = platform.main(arguments, prog_name="platform", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return int(ExitCode.GOOD)
    except click.ClickException as error:
        hint = f"; see: {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        return _refuse(f"{error.format_message().rstrip('.')}{hint}", ExitCode.USAGE, arguments)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:  # `platform logs | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.GOOD)
    except ConfigurationError as error:
        one = f"{error.source}: {error.problems[0]}" if len(error.problems) == 1 else str(error)
        return _refuse(one, ExitCode.CONFIGURATION, arguments)
    except PlatformError as error:
        return _refuse(str(error), _exit_code(error), arguments)
    except Exception as error:  # nobody foresaw it: said as a bug, with the place, instead of a page of traceback
        return _bug(error, arguments)
    return int(code or 0)


def _exit_code(error: PlatformError) -> ExitCode:
    match error:
        case CommandError():
            return error.exit_code
        case TransientFault():
            return ExitCode.UNKNOWN
        case _:
            return ExitCode.NO


def _bug(error: Exception, arguments: list[str]) -> int:
    if os.environ.get("PLATFORM_DEBUG"):
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = f"a bug in the platform: {type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    return _refuse(
        f"{message}; the traceback: PLATFORM_DEBUG=1 platform {' '.join(arguments)}", ExitCode.BUG, arguments
    )


def _refuse(message: str, code: ExitCode, arguments: list[str]) -> int:
    if "--json" in arguments:
        click.echo(json.dumps({"error": message, "exit_code": int(code)}))
    click.echo(f"{click.style('error:', fg='red') if sys.stderr.isatty() else 'error:'} {message}", err=True)
    return int(code)


if __name__ == "__main__":
    main()
