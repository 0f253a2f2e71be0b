"""What the platform's processes cost: CPU and memory of each, by name, read from /proc.

CPU per transaction is the figure to compare two versions by: the cores divided by their sum are the rate, and other work on
the machine disturbs it far less than a clock on the wall. Nothing is estimated and nobody is asked.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

MILLISECONDS_PER_TICK: Final = 1000 / os.sysconf("SC_CLK_TCK")
ENDED: Final = "postgres: sessions that ended"
_POSTGRES_TITLE: Final = re.compile(r"postgres: (\S+( \S+)?)")
_PSS: Final = re.compile(r"^Pss(|_Anon|_File|_Shmem):\s+(\d+) kB", flags=re.MULTILINE)


class Memory(NamedTuple):
    """PSS in bytes, and what kind of pages it is: a heap's, a file's, a server's shared buffers."""

    total: int = 0
    anonymous: int = 0
    file: int = 0
    shared: int = 0

    def plus(self, other: Memory, sign: int = 1) -> Memory:
        return Memory(*(mine + sign * theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Footprint:
    """CPU used so far in milliseconds and memory (PSS) in bytes, by the name of the process. Equal names are added up."""

    cpu_ms: Mapping[str, float]
    pss: Mapping[str, Memory]

    @property
    def pss_bytes_total(self) -> int:
        return sum(memory.total for memory in self.pss.values())


def footprint(run_dir: Path) -> Footprint:
    """Of every process that carries this run directory, and of its children: PostgreSQL's sessions write their title
    over the environment that would name it. A worker comes with what it imported, a server with its shared pages."""
    cpu: Counter[str] = Counter()
    pss: dict[str, Memory] = {}
    for pid, ended_ticks in processes_of(run_dir):
        entry = Path("/proc", str(pid))
        try:
            name = _name(entry)
            cpu[name] += _ticks(entry)[0]
        except OSError:  # it left meanwhile
            continue
        if name == "postgres":
            cpu[ENDED] += ended_ticks
        pss[name] = pss.get(name, Memory()).plus(_pss_of(entry))
    return Footprint({name: ticks * MILLISECONDS_PER_TICK for name, ticks in cpu.items()}, pss)


def cpu_per_transaction(before: Footprint, after: Footprint, transactions: int) -> dict[str, float]:
    """Milliseconds of CPU that a transaction cost in each process, dearest first, and `total`. What is not worth a
    thousandth is left out of the list, not out of the total."""
    used = {name: (ms - before.cpu_ms.get(name, 0.0)) / transactions for name, ms in after.cpu_ms.items()}
    dearest = sorted(used.items(), key=lambda item: -item[1])
    return {
        "total": round(sum(used.values()), 3),
        **{name: round(ms, 3) for name, ms in dearest if ms >= 0.001},
    }


def pss_by_process(before: Footprint, after: Footprint) -> dict[str, dict[str, int]]:
    """PSS at the end and by how much it grew, in all and by kind of page, in bytes; who grew most comes first."""
    grown = {name: memory.plus(before.pss.get(name, Memory()), -1) for name, memory in after.pss.items()}
    return {
        name: {
            "bytes": after.pss[name].total,
            "growth_bytes": by.total,
            "growth_anonymous_bytes": by.anonymous,
            "growth_file_bytes": by.file,
            "growth_shared_bytes": by.shared,
        }
        for name, by in sorted(grown.items(), key=lambda item: -item[1].total)
    }


def growth(by_process: Mapping[str, Mapping[str, int]], *, most: int = 8) -> str:
    """In words: which names grew most, in MiB."""
    dearest = list(by_process.items())[:most]
    return ", ".join(f"{name} {memory['growth_bytes'] / 2**20:+.1f} MiB" for name, memory in dearest)


def processes_of(run_dir: Path) -> Iterator[tuple[int, int]]:
    """(pid, ticks of children that ended) of the platform's processes, without this one."""
    marker = f"PLATFORM_RUN_DIR={run_dir}\0".encode()
    parents: dict[int, int] = {}
    ended: dict[int, int] = {}
    ours: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            pid = int(entry.name)
            try:
                _, ended[pid], parents[pid] = _ticks(entry)
                if marker in (entry / "environ").read_bytes():
                    ours.add(pid)
            except OSError:  # another user's process, or one that just left
                continue
    ours |= {pid for pid, parent in parents.items() if parent in ours}
    return ((pid, ended[pid]) for pid in ours)


def _ticks(entry: Path) -> tuple[int, int, int]:
    """(own ticks, ticks of children that ended, parent)."""
    stat = (entry / "stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]), int(fields[1])


def _name(entry: Path) -> str:
    """A worker by its name, a server's process by its title without what it does just now, anything else by its program."""
    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if title := _POSTGRES_TITLE.match(words[0]):
        who = title.group(1)
        return f"postgres: {who.split()[0] if who.startswith('fp_') else who}"
    if "run" in words[:-1] and "fraud_daemons.cli.main" in words:
        return words[words.index("run") + 1]
    if "supervisor.supervisord" in words:
        return "supervisord"
    return Path(words[0]).name or (entry / "comm").read_text().strip()


def _pss_of(entry: Path) -> Memory:
    try:
        found = dict(_PSS.findall((entry / "smaps_rollup").read_text()))
    except OSError:  # it left meanwhile
        return Memory()
    return Memory(*(int(found.get(kind, 0)) * 1024 for kind in ("", "_Anon", "_File", "_Shmem")))
