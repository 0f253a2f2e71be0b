"""platform replay: the decisions of a run, recomputed from the archive alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli._listing import PAGE_MAX, aligned, chosen_run, reading
from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.dsns import PLATFORM_DSN
from fraud_daemons.errors import CommandError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.acceptance.archived_run import Objects
    from fraud_daemons.domain.policy import Policy

_SHOWN_MAX = 20


@click.command()
@click.option("--run", "run", default=None, metavar="RUN",
              help="Run id; default: the current run, with --archive the newest there.")  # fmt: skip
@click.option("--policy", "policy_name", default=None, metavar="FILE|NAME",
              help="Decide by this policy instead, and list what it would change.")  # fmt: skip
@click.option("--archive", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
              help="A folder with a copy of the bucket; default: the profile's object store.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 100 * PAGE_MAX), default=PAGE_MAX, show_default=True,
              help="Differences listed at most; all are counted.")  # fmt: skip
@invocation
def command(call: Invocation, *, run: str | None, policy_name: str | None, folder: Path | None, limit: int) -> int:
    """Recompute a run's decisions from the archive alone. 0 = all the same, 1 = what differs, or what is missing, named."""
    from fraud_daemons.acceptance.archived_run import ArchivedRun
    from fraud_daemons.acceptance.replaying import Replayer, document_of

    given = None if policy_name is None else _given(call, policy_name)
    objects = _objects(call, folder)
    archive = ArchivedRun(objects, run or _default_run(call, folder))
    if not len(archive):
        raise CommandError(f"the archive has nothing of run {archive.run!r}; see: platform run list")
    hidden = call.as_json or not sys.stderr.isatty()
    with click.progressbar(length=1000, label="replaying", file=sys.stderr, hidden=hidden) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(max(0, min(1000, 1000 * done // total) - bar.pos))

        replay = Replayer(
            archive, known=_Known(call), given=given, differences_max=limit, progress=progress
        ).run()  # fmt: skip
    document = document_of(replay, archive, given=given)
    call.answer(document, text=_text(document))
    return int(ExitCode.GOOD if document["verdict"] == "PASS" else ExitCode.NO)


def _objects(call: Invocation, folder: Path | None) -> Objects:
    from fraud_daemons.bootstrap import evidence_store
    from fraud_daemons.evidence.folder import EvidenceFolder

    return evidence_store(call.load_profile()) if folder is None else EvidenceFolder(folder)


def _default_run(call: Invocation, folder: Path | None) -> str:
    """The current run; of a folder the newest, for ids begin with their time."""
    if folder is None:
        with reading(call.load_profile(), "replay") as tables_of:
            return chosen_run(tables_of(PLATFORM_DSN), None)
    runs = sorted(path.parent.name for path in folder.glob("*/archive") if path.parent.name.startswith("platform_"))
    if not runs:
        raise CommandError(f"{folder} holds no run: it must hold RUN/archive/ as the bucket does")
    return runs[-1]


def _given(call: Invocation, name: str) -> Policy:
    """The policy in a file, else that of config/policies. Raises CommandError with its first problem."""
    from fraud_daemons.config.policies import policies_folder
    from fraud_daemons.config.policy_check import checked

    file = Path(name)
    if not file.suffix and not file.exists():
        file = policies_folder(call.root) / f"{name}.toml"
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text"
        raise CommandError(f"--policy {name}: {file}: {why}", exit_code=ExitCode.USAGE) from error
    policy, problems = checked(text, source=str(file))
    if policy is None:
        raise CommandError(f"policy {file} is refused, nothing was replayed: {problems[0]}")
    return policy


class _Known:
    """Policies of this copy of the project by digest: its files, read once, and the built-in stand-in."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._found: dict[str, Policy] | None = None

    def __call__(self, digest: str) -> Policy | None:
        if self._found is None:
            self._found = {policy.digest: policy for policy in self._read()}
        return self._found.get(digest)

    def _read(self) -> list[Policy]:
        from fraud_daemons.config.policies import policies_folder, read_policy
        from fraud_daemons.domain.stand_in import STAND_IN

        found = [STAND_IN]
        for path in sorted(policies_folder(self._call.root).glob("*.toml")):
            try:
                found.append(read_policy(self._call.root, path.stem))
            except ConfigurationError:  # one that cannot be read decided nothing
                continue
        return found


def _text(document: dict[str, Any]) -> str:
    policy = document["policy"]
    by = "" if policy is None else f" by {policy['policy_id']} {policy['digest'][:16]}"
    head = f"{document['platform_run_id']}  {document['decisions']} decisions replayed{by}"
    ends = (
        f"{document['equal']} equal, {document['different']} different, {document['not_replayed']} not to be replayed"
    )
    lines = [f"{head}: {ends}"]
    if document["undecidable"]:
        lines.append(f"  {document['undecidable']} flows were never decided and cannot be")
    shown = document["differences"][:_SHOWN_MAX]
    if shown:
        rows = [
            (d["decision_id"], d["flow_id"], ", ".join(_change(n, f) for n, f in d["fields"].items())) for d in shown
        ]
        lines += ["", aligned(("DECISION", "FLOW", "DIFFERS IN"), rows)]
        if document["different"] > len(shown):
            lines.append(f"and {document['different'] - len(shown)} more; all: --json")
    lines += [f"  {problem['object']}: {problem['what']}" for problem in document["examples"]]
    return "\n".join([*lines, f"verdict  {document['verdict']}"])


def _change(name: str, field: dict[str, Any]) -> str:
    short = all(isinstance(value, str | int | None) and len(str(value)) <= 16 for value in field.values())
    return f"{name} {field['recorded']} -> {field['replayed']}" if short else name
