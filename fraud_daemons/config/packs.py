"""Pack definitions: which workers make up a pack, what it waits for, and its limits. One TOML file per pack."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_daemons.errors import ConfigurationError

_KEYS = {"title", "purpose", "start_after", "workers", "drain_seconds"}


@dataclass(frozen=True)
class Pack:
    """One pack: its file's name, title, purpose, the packs it starts after, its workers and its drain deadline."""

    name: str
    title: str
    purpose: str
    start_after: tuple[str, ...]
    workers: tuple[str, ...]
    drain_seconds: float


def worker_module(pack: str, worker: str) -> str:
    """Import path of a worker: a reader finds any worker from its name in one step."""
    return f"fraud_daemons.workers.{pack}.{worker}"


def load_packs(root: Path, *, enabled: Sequence[str] = ()) -> tuple[Pack, ...]:
    """Every pack of `root` (or only `enabled`), in start order. Raises ConfigurationError with all problems."""
    problems: list[str] = []
    packs: dict[str, Pack] = {}
    for path in sorted((root / "packs").glob("*.toml")):
        if not enabled or path.stem in enabled:
            pack = _read(path, problems)
            if pack:
                packs[pack.name] = pack
    problems += [
        f"profile.packs: there is no pack {name!r}"
        for name in enabled
        if not (root / "packs" / f"{name}.toml").is_file()
    ]
    seen: dict[str, str] = {}
    for pack in packs.values():
        for other in pack.start_after:
            if other not in packs and not enabled:
                problems.append(f"packs/{pack.name}.toml: start_after names {other!r}, which is no pack")
        for worker in pack.workers:
            if worker in seen:
                problems.append(f"packs/{pack.name}.toml: worker {worker!r} is already in pack {seen[worker]!r}")
            seen[worker] = pack.name
    ordered = _ordered(packs, problems)
    if problems:
        raise ConfigurationError(problems, source="packs")
    return ordered


def _read(path: Path, problems: list[str]) -> Pack | None:
    where = f"packs/{path.name}"
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{where}: not valid TOML: {error}")
        return None
    problems += [
        f"{where}: no such key {key!r}; known: {', '.join(sorted(_KEYS))}" for key in document if key not in _KEYS
    ]
    workers = document.get("workers")
    if not isinstance(workers, list) or not workers or not all(isinstance(w, str) for w in workers):
        problems.append(f"{where}: workers must be a list of at least one worker name")
        return None
    folder = Path(__file__).parent.parent / "workers" / path.stem
    for worker in workers:
        if not (folder / f"{worker}.py").is_file():
            problems.append(
                f"{where}: there is no worker {worker!r}; it would be the file fraud_daemons/workers/{path.stem}/{worker}.py"
            )
    return Pack(
        name=path.stem,
        title=str(document.get("title", path.stem)),
        purpose=str(document.get("purpose", "")),
        start_after=tuple(document.get("start_after", ())),
        workers=tuple(workers),
        drain_seconds=float(document.get("drain_seconds", 8.0)),
    )


def _ordered(packs: dict[str, Pack], problems: list[str]) -> tuple[Pack, ...]:
    done: list[str] = []
    waiting = dict(packs)
    while waiting:
        free = [name for name, pack in waiting.items() if all(a in done or a not in packs for a in pack.start_after)]
        if not free:
            problems.append(f"packs: start_after goes in a circle between {', '.join(sorted(waiting))}")
            return ()
        for name in free:
            done.append(name)
            del waiting[name]
    return tuple(packs[name] for name in done)
