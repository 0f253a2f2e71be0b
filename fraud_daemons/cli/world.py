"""platform world: list, make, import and show the sealed worlds that a run streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraud_daemons.cli.options import Invocation, invocation
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import ExitCode

if TYPE_CHECKING:
    from fraud_daemons.worlds.importer import Imported
    from fraud_daemons.worlds.progress import Progress
    from fraud_daemons.worlds.sealed import Manifest

DAY = click.DateTime(formats=["%Y-%m-%d"])
REASONS_SHOWN = 10
ORIGIN_SHOWN = ("seed", "file", "mapping", "from_date", "to_date", "limit")


@click.group()
def world() -> None:
    """Sealed, fingerprinted data sets: from the built-in generator and from real files."""


command = world


@world.command("list")
@invocation
def list_command(call: Invocation) -> int:
    """What can be streamed. 1 when a world is damaged."""
    from fraud_daemons.worlds.sealed import survey_worlds

    survey = survey_worlds(worlds_dir(call.load_profile()))
    document = {
        "worlds": [
            {"world": m.world, "transactions": m.transactions, "fingerprint": m.fingerprint, "source": m.source}
            for m in survey.manifests
        ],
        "damaged": [{"world": name, "problems": list(error.problems)} for name, error in survey.damaged.items()],
    }
    lines = [
        f"{m.world:<24} {m.transactions:>9,}  {m.source:<9}  {_span(m)}  {m.fingerprint[:16]}" for m in survey.manifests
    ]
    lines += [f"{name:<24} damaged: {error.problems[0]}" for name, error in survey.damaged.items()]
    call.answer(document, text="\n".join(lines) or "no worlds yet; make one with: platform world make")
    return int(ExitCode.NO if survey.damaged else ExitCode.GOOD)


@world.command("make")
@click.argument("name", default="demo")
@click.option("--transactions", type=click.IntRange(min=1), default=5000, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes.")
@click.option("--currency", default=None, metavar="CODE", help="ISO 4217; default: the profile's.")
@invocation
def make_command(call: Invocation, *, name: str, transactions: int, seed: int, currency: str | None) -> int:
    """Generate the world NAME (default: demo). The same again changes nothing; other content is refused."""
    from fraud_daemons.worlds.generator import make_world

    profile = call.load_profile()
    with _bar(call, f"making {name}") as progress:
        made = make_world(
            worlds_dir(profile),
            name=name,
            transactions=transactions,
            seed=seed,
            currency=currency or profile.get("decision.currency"),
            progress=progress,
        )
    call.answer(_document(made.manifest), text=_text(made.manifest))
    return int(ExitCode.GOOD)


@world.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--mapping", required=True, metavar="M", help="A path, or a name in config/mappings/ (handbook, pcard).")
@click.option("--name", default=None, metavar="W", help="Name of the world; default: the file's.")
@click.option("--from-date", type=DAY, default=None, metavar="DAY", help="First day, in the mapping's time zone.")
@click.option("--to-date", type=DAY, default=None, metavar="DAY", help="Last day, included.")
@click.option("--limit", type=click.IntRange(min=1), default=None, metavar="N", help="Only the first N transactions.")
@invocation
def import_command(
    call: Invocation,
    *,
    file: Path,
    mapping: str,
    name: str | None,
    from_date: datetime | None,
    to_date: datetime | None,
    limit: int | None,
) -> int:
    """Seal the transactions of a real FILE (.csv, .csv.gz, .parquet). Bad rows are kept aside with their reasons."""
    from fraud_daemons.worlds.importer import import_world
    from fraud_daemons.worlds.mapping import find_mapping, load_mapping
    from fraud_daemons.worlds.normaliser import Selection

    profile = call.load_profile()
    rules = load_mapping(find_mapping(mapping, profile.root / "config" / "mappings"))
    with _bar(call, f"importing {file.name}") as progress:
        imported = import_world(
            file,
            mapping=rules,
            worlds_dir=worlds_dir(profile),
            name=name or world_name_of(file),
            selection=Selection(from_date=_day(from_date), to_date=_day(to_date), limit=limit),
            progress=progress,
        )
    call.answer(_account(imported) | _document(imported.world.manifest), text=_import_text(imported))
    return int(ExitCode.GOOD)


@world.command("show")
@click.argument("name")
@click.option("--verify", is_flag=True, help="Derive the fingerprint from the whole content again.")
@invocation
def show_command(call: Invocation, *, name: str, verify: bool) -> int:
    """One world: what it holds and where it came from. 78 when it was changed after sealing."""
    from fraud_daemons.worlds.sealed import open_world

    opened = open_world(worlds_dir(call.load_profile()), name)
    if verify:
        opened.verify()
    document = _document(opened.manifest) | {"scenario_run_id": opened.scenario_run_id, "verified": verify}
    call.answer(
        document, text=_text(opened.manifest) + ("\nverified    the content gives this fingerprint" if verify else "")
    )
    return int(ExitCode.GOOD)


def worlds_dir(profile: Profile) -> Path:
    """Where a profile's worlds lie."""
    return profile.path("worlds")


def world_name_of(file: Path) -> str:
    """A world's name from a file's: `Handbook 2018-07.parquet` becomes `handbook-2018-07`."""
    return re.sub(r"[^a-z0-9_-]+", "-", file.name.lower().split(".")[0]).strip("-_")[:63]


def _document(manifest: Manifest) -> dict[str, Any]:
    document = manifest.document()
    return {name: document[name] for name in document if name not in ("streams", "files")}


def _account(imported: Imported) -> dict[str, Any]:
    account = imported.account
    return {
        "rows": account.rows,
        "outside_dates": account.outside_dates,
        "beyond_limit": account.beyond_limit,
        "reject_reasons": dict(account.reasons.most_common()),
    }


def _text(manifest: Manifest) -> str:
    told = ((name, manifest.origin.get(name)) for name in ORIGIN_SHOWN)
    origin = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told if value is not None)
    content = f"{manifest.transactions:,} transactions in {manifest.currency}, {manifest.truths:,} labels"
    lines = [
        f"world       {manifest.world} ({manifest.source}: {origin})",
        f"holds       {content}, {manifest.rejects:,} rejected rows",
        f"from, to    {_span(manifest)}",
        f"fingerprint {manifest.fingerprint}",
    ]
    return "\n".join(lines)


def _import_text(imported: Imported) -> str:
    account = imported.account
    left_out = f"{account.outside_dates:,} outside the dates + {account.beyond_limit:,} beyond the limit"
    rows = f"{account.rows:,} = {account.transactions:,} transactions + {account.rejects:,} rejected + {left_out}"
    lines = [_text(imported.world.manifest), f"rows        {rows}"]
    lines += [f"  {count:>9,}  {reason}" for reason, count in account.reasons.most_common(REASONS_SHOWN)]
    if account.rejects:
        lines.append(f"rejected    {imported.world.path / 'rejects.ndjson'}")
    return "\n".join(lines)


def _span(manifest: Manifest) -> str:
    return f"{manifest.first_occurred_at[:16]} .. {manifest.last_occurred_at[:16]}"


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


@contextmanager
def _bar(call: Invocation, label: str) -> Iterator[Progress]:
    """A progress bar on a terminal; silence elsewhere."""
    hidden = call.as_json or not sys.stderr.isatty()
    with click.progressbar(length=1000, label=label, file=sys.stderr, hidden=hidden) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(max(0, min(1000, 1000 * done // total) - bar.pos))

        yield progress
