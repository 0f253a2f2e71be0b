"""What is to be supervised: a profile, its packs, and how a worker is started. Tests bring their own packs and workers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fraud_daemons.config.packs import Pack, load_packs
from fraud_daemons.config.profiles import Profile
from fraud_daemons.errors import CommandError, ExitCode

SUBSTRATE = "substrate"
SUPERVISOR, ENGINE = "supervisord", "engine"  # worker and pack of what the audit and the heartbeat say of itself
POSTGRES, OBJECTSTORE = "postgres", "objectstore"
RUN_DIR_VARIABLE = "PLATFORM_RUN_DIR"  # in the environment of every process we start: how survivors are found

WorkerCommand = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Deployment:
    """A profile with its packs in start order and the command line that runs a worker."""

    profile: Profile
    packs: tuple[Pack, ...]
    worker_command: WorkerCommand

    @property
    def run_dir(self) -> Path:
        return self.profile.run_dir

    @property
    def services(self) -> tuple[str, ...]:
        """The embedded services of this profile."""
        embedded = {POSTGRES: self.profile.embedded_postgres, OBJECTSTORE: self.profile.embedded_objectstore}
        return tuple(name for name, wanted in embedded.items() if wanted)

    @property
    def pack_of(self) -> dict[str, str]:
        """Worker -> its pack."""
        return {worker: pack.name for pack in self.packs for worker in pack.workers}

    def lock(self, program: str) -> Path:
        """The lock that a supervised `program` and its forks hold; beside the one a worker takes itself, which also
        keeps a copy started by hand apart."""
        return self.run_dir / "locks" / f"{program}.launch.lock"

    @property
    def supervisor_beat(self) -> Path:
        """The heartbeat file of supervisord itself; there is none after `down`."""
        return self.beat(SUPERVISOR)

    def beat(self, program: str) -> Path:
        """The heartbeat file of `program`."""
        return self.run_dir / "beats" / f"{program}.json"

    def crash_log(self, program: str) -> Path:
        """Where the stdout and stderr of `program` go."""
        return self.run_dir / "logs" / f"{program}.crash.log"

    def services_of(self, targets: Sequence[str]) -> tuple[str, ...]:
        """The embedded services among `targets`: by name, or all of them by "substrate"; none unless named."""
        return tuple(name for name in self.services if name in targets or SUBSTRATE in targets)

    def workers(self, targets: Sequence[str] = ()) -> tuple[str, ...]:
        """The workers of `targets` (packs, workers or services, which have none; no target = all), in start order.

        Raises CommandError for unknown names.
        """
        known = self.pack_of
        packs = {pack.name for pack in self.packs}
        services = (SUBSTRATE, *self.services) if self.services else ()
        for target in targets:
            if target not in known and target not in packs and target not in services:
                names = ", ".join([*sorted(packs), *sorted(known), *services])
                raise CommandError(f"there is no pack or worker {target!r}; known: {names}", exit_code=ExitCode.USAGE)
        return tuple(w for w, pack in known.items() if not targets or w in targets or pack in targets)

    def levels(self, workers: Iterable[str]) -> list[tuple[str, ...]]:
        """`workers` in waves: those of one wave start together, each wave after everything its packs start after."""
        wanted = set(workers)
        depth: dict[str, int] = {}
        for pack in self.packs:  # in start order, so what a pack waits for is already there
            depth[pack.name] = 1 + max((depth[name] for name in pack.start_after if name in depth), default=-1)
        waves = (
            tuple(w for pack in self.packs if depth[pack.name] == level for w in pack.workers if w in wanted)
            for level in sorted(set(depth.values()))
        )
        return [wave for wave in waves if wave]


def deployment_of(profile: Profile, *, packs: tuple[Pack, ...] | None = None) -> Deployment:
    """The deployment a profile describes. Raises ConfigurationError when its packs are wrong, unless they are given."""
    if packs is None:
        packs = load_packs(profile.root, enabled=profile.get("profile.packs"))

    def worker_command(worker: str) -> list[str]:
        where = ["--profile", profile.name, "--root", str(profile.root)]
        return [sys.executable, "-m", "fraud_daemons.cli.main", "worker", "run", worker, *where]

    return Deployment(profile=profile, packs=packs, worker_command=worker_command)
