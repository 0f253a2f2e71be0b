"""Reads a profile into one frozen object: defaults < file < environment < flags, all problems reported together.

Unset is not a default: a key that a layer does not name leaves the layer below alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fraud_daemons.config.dsns import NAMES, PLATFORM_DSN, SCHEMA_OF, split_groups
from fraud_daemons.config.settings import SETTINGS, Setting
from fraud_daemons.errors import ConfigurationError

DEFAULT_PROFILE = "local_parity"
SOCKET_PATH_BYTES_MAX = 95  # supervisord binds "<path>.<pid>" first; sun_path holds 107 bytes and pids have 7 digits


@dataclass(frozen=True)
class Profile:
    """Everything the platform was told, checked. `get("loop.batch_records_max")` reads one setting."""

    name: str
    root: Path
    run_dir: Path
    values: Mapping[str, Any]
    dsns: Mapping[str, str]
    """Explicit DSNs only, by name (PLATFORM_DSN included); a name that is missing uses the default."""

    def get(self, name: str) -> Any:
        """Value of setting `section.key`. Raises KeyError for a name that is no setting."""
        return self.values[name]

    @property
    def embedded_postgres(self) -> bool:
        """Whether the platform runs its own PostgreSQL: unless PLATFORM_DSN is given."""
        return PLATFORM_DSN not in self.dsns

    @property
    def embedded_objectstore(self) -> bool:
        return not self.get("objectstore.endpoint")

    @property
    def socket_path(self) -> Path:
        return self.run_dir / "supervisor.sock"

    def path(self, *parts: str) -> Path:
        """A path below the run directory."""
        return self.run_dir.joinpath(*parts)


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds packs/ and config/profiles/. Raises ConfigurationError."""
    for folder in (start, *start.parents):
        if (folder / "packs").is_dir() and (folder / "config" / "profiles").is_dir():
            return folder
    raise ConfigurationError(
        [f"no folder with packs/ and config/profiles/ at or above {start}; go to the project or give --root"],
        source="project root",
    )


def load_profile(
    name: str, *, root: Path, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Profile:
    """The profile `name` of `root`, checked. Raises ConfigurationError with every problem found."""
    path = root / "config" / "profiles" / f"{name}.toml"
    problems: list[str] = []
    document = _read(path, name=name, root=root)
    values = {setting.name: setting.default for setting in SETTINGS}
    by_name = {setting.name: setting for setting in SETTINGS}
    dsns = _apply_file(document, by_name, values, problems)
    _apply_environment(environment, values, dsns, problems)
    for key, value in (overrides or {}).items():
        _assign(by_name.get(key), key, value, values, problems, source="flag")
    problems += [wrong for setting in SETTINGS if (wrong := _checked(setting, values[setting.name]))]
    problems += split_groups(dsns)
    run_dir = Path(values["profile.run_dir"] or root / ".run" / name)
    run_dir = run_dir if run_dir.is_absolute() else root / run_dir
    problems += _across(values, run_dir)
    if problems:
        raise ConfigurationError(problems, source=f"profile {name} ({path})")
    return Profile(
        name=name,
        root=root,
        run_dir=run_dir,
        values=MappingProxyType(values),
        dsns=MappingProxyType({key: value for key, value in dsns.items() if value}),
    )


def _read(path: Path, *, name: str, root: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in (root / "config" / "profiles").glob("*.toml"))) or "none"
        raise ConfigurationError([f"there is no profile {name!r}; known: {known}"], source="profile") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"not valid TOML: {error}"], source=f"profile {name} ({path})") from error


def _apply_file(
    document: Mapping[str, Any], by_name: Mapping[str, Setting], values: dict[str, Any], problems: list[str]
) -> dict[str, str]:
    dsns: dict[str, str] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            problems.append(f"{section}: must be a section of settings, written [{section}]")
            continue
        for key, value in content.items():
            if (section, key) == ("database", "dsns"):
                dsns.update(_dsns(value, problems))
            else:
                _assign(by_name.get(f"{section}.{key}"), f"{section}.{key}", value, values, problems, source="file")
    return dsns


def _dsns(content: Any, problems: list[str]) -> dict[str, str]:
    if not isinstance(content, dict):
        problems.append("database.dsns: must be a table of DSN names")
        return {}
    for name, value in content.items():
        if name not in NAMES:
            problems.append(f"database.dsns.{name}: no such DSN name; known: {', '.join(NAMES)}")
        elif not isinstance(value, str):
            problems.append(f"database.dsns.{name}: must be text, a libpq connection string or URL")
    return {name: value for name, value in content.items() if name in NAMES and isinstance(value, str)}


def _apply_environment(
    environment: Mapping[str, str], values: dict[str, Any], dsns: dict[str, str], problems: list[str]
) -> None:
    for setting in SETTINGS:
        text = environment.get(setting.environment)
        if text is not None:
            _assign(setting, setting.environment, _parse(setting, text), values, problems, source="environment")
    if "WSP_MAX_EVENTS_PER_OUTPUT" in environment:  # the seed's name for producer.max_events_per_output
        setting = next(s for s in SETTINGS if s.name == "producer.max_events_per_output")
        value = _parse(setting, environment["WSP_MAX_EVENTS_PER_OUTPUT"])
        _assign(setting, "WSP_MAX_EVENTS_PER_OUTPUT", value, values, problems, source="environment")
    for name in (PLATFORM_DSN, *SCHEMA_OF):
        if name in environment:
            dsns[name] = environment[name]


def _parse(setting: Setting, text: str) -> Any:
    if setting.type is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower(), text)
    if setting.type is list:
        return [part for part in text.split(",") if part]
    try:
        return setting.type(text)
    except ValueError:
        return text


def _assign(
    setting: Setting | None, name: str, value: Any, values: dict[str, Any], problems: list[str], *, source: str
) -> None:
    if setting is None:
        problems.append(f"{name}: no such setting ({source})")
        return
    if setting.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, setting.type) or (setting.type is int and isinstance(value, bool)):
        problems.append(f"{name} = {value!r}: must be {_TYPE_WORDS[setting.type]} ({source})")
        return
    values[setting.name] = value


def _checked(setting: Setting, value: Any) -> str | None:
    wrong = setting.check(value) if setting.check else None
    return f"{setting.name} = {value!r}: {wrong}" if wrong else None


def _across(values: Mapping[str, Any], run_dir: Path) -> list[str]:
    """Checks between settings: ordered timers, room for sockets."""
    problems = [
        f"timers out of order: {lower} ({values[lower]:g}) must be below {upper} ({values[upper]:g}), or {consequence}"
        for lower, upper, consequence in _ORDERED
        if not values[lower] < values[upper]
    ]
    put_back = values["incident.connector"] != "shared" or not values["incident.containment"]
    if put_back and not (values["profile.drills"] and values["incident.asked_by"]):
        problems.append(
            "incident.connector, incident.containment: they put the incident back and only the drill connection-churn may"
            " set them; remove them"
        )
    length = len(str(run_dir / "supervisor.sock").encode())
    if length > SOCKET_PATH_BYTES_MAX:
        problems.append(
            f"profile.run_dir: the socket path {run_dir / 'supervisor.sock'} has {length} bytes, {SOCKET_PATH_BYTES_MAX} fit;"
            " set profile.run_dir (or PLATFORM_PROFILE_RUN_DIR) to a shorter folder"
        )
    return problems


_ORDERED: Sequence[tuple[str, str, str]] = (
    (
        "database.connect_timeout_seconds",
        "database.client_deadline_seconds",
        "connecting again takes longer than any answer may",
    ),
    (
        "database.client_deadline_seconds",
        "database.scope_seconds_max",
        "a scope is reported as held too long while it waits for one answer",
    ),
    (
        "database.client_deadline_seconds",
        "loop.beat_age_seconds_max",
        "a database that answers nothing makes every worker look hung",
    ),
    (
        "database.client_deadline_seconds",
        "loop.watchdog_seconds",
        "a database that answers nothing restarts everyone",
    ),
    (
        "loop.beat_age_seconds_max",
        "loop.watchdog_seconds",
        "a worker is killed before status could say that its loop does not turn",
    ),
    (
        "database.statement_timeout_seconds",
        "database.client_deadline_seconds",
        "a statement that is merely slow loses its connection before the server can say so",
    ),
    (
        "database.long_statement_timeout_seconds",
        "database.long_client_deadline_seconds",
        "a statement that is merely slow loses its connection before the server can say so",
    ),
    (
        "database.lock_timeout_seconds",
        "database.statement_timeout_seconds",
        "a wait for a lock looks like a statement that is too long, and batches are halved in vain",
    ),
    (
        "database.idle_in_transaction_seconds",
        "loop.watchdog_seconds",
        "a worker frozen inside a transaction keeps its locks until it is killed",
    ),
)
"""Timers that must rise: the lower, the upper, and what happens otherwise."""

_TYPE_WORDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
}
