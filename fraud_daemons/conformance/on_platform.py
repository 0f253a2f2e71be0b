"""What the platform itself is asked: the profile as it stands now, the evidence bucket, the policy that decides, the
gate's keys, and which code each worker runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fraud_daemons.config.dsns import IG_ADMISSION_DSN, PLATFORM_DSN
from fraud_daemons.config.policies import read_policy
from fraud_daemons.conformance.environment import Check, Environment, judged, unknown
from fraud_daemons.errors import ConfigurationError, PlatformError
from fraud_daemons.evidence.conditional_put import probe
from fraud_daemons.observability.heartbeat import Heartbeat, read_heartbeat
from fraud_daemons.state import policies, principals
from fraud_daemons.status.picture import HELD, STARTING, STOPPED, own_beat

DECIDER: Final = "decision_fabric"
SHOWN: Final = 16  # characters of a digest that tell two apart at a glance


def profile(env: Environment) -> Iterator[Check]:
    """The profile's file and the environment now say what the running platform was told."""
    expected, restart = (
        "what the platform was started with",
        "correct it, or platform down and platform up to take it up",
    )
    try:
        now = env.reload_profile()
    except ConfigurationError as error:
        yield judged("profile", good=False, expected=expected, observed="; ".join(error.problems), remedy=restart)
        return
    other = [name for name, value in env.profile.values.items() if now.values.get(name) != value]
    other += sorted(
        name for name in {**now.dsns, **env.profile.dsns} if now.dsns.get(name) != env.profile.dsns.get(name)
    )
    observed = f"differs now: {', '.join(other)}" if other else "the same"  # names only: a DSN holds a password
    yield judged("profile", good=not other, expected=expected, observed=observed, remedy=restart)


def bucket(env: Environment) -> Iterator[Check]:
    """The evidence bucket takes a put, refuses to overwrite it and gives it back; and it keeps every version."""
    name, expected = (
        f"bucket {env.profile.get('objectstore.bucket')}",
        "reachable; a second put of a key changes nothing",
    )
    try:
        store = env.make_store()
        said, keeps = probe(store), store.keeps_versions()
    except PlatformError as fault:
        said, keeps = str(fault), None
    yield judged(
        name, good=said is None, expected=expected, observed=said or "both hold",
        remedy="bring the object store back, or correct objectstore.*; evidence waits meanwhile and nothing is lost",
    )  # fmt: skip
    if keeps is not None:
        yield judged(
            f"versions of {name}", good=keeps, expected="what is overwritten or deleted stays as an older version",
            observed="kept" if keeps else "not kept",
            remedy="turn the bucket's versioning on, and deny the writer's identity s3:DeleteObject and s3:DeleteObjectVersion",
        )  # fmt: skip


def policy(env: Environment) -> Iterator[Check]:
    """Three must agree: what was ordered (the newest activation, else the profile), its file, and what decides."""
    name, configured = "policy", env.profile.get("decision.policy")
    try:
        with env.database_of(PLATFORM_DSN).scope() as connection:
            newest = policies.newest(connection)
    except PlatformError as fault:
        yield unknown(name, expected="the policy that was ordered decides", why=str(fault), remedy="see the servers")
        return
    ordered = configured if newest is None else newest.name
    expected = f"{ordered} decides and its file is unchanged" + (f" ({newest.digest[:SHOWN]})" if newest else "")
    remedy = f"put the file back, or: platform policy activate {ordered} --reason …"
    try:
        file = read_policy(env.profile.root, ordered).digest
    except ConfigurationError as error:
        yield judged(name, good=False, expected=expected, observed=error.problems[0], remedy=remedy)
        return
    pid = next((seen["pid"] for seen in _supervised(env) if seen["worker"] == DECIDER), None)
    beat = own_beat(pid, _last_beat(env, DECIDER))
    told = (beat.detail.get("policy") or {}).get("digest") if beat else None
    if told is None:
        yield unknown(
            name, expected=expected, why=f"{DECIDER} does not say by what it decides", remedy="platform status -v"
        )
        return
    digests = {"ordered": newest.digest if newest else file, "file": file, "decides": told}
    observed = ", ".join(f"{word} {digest[:SHOWN]}" for word, digest in digests.items())
    yield judged(name, good=len(set(digests.values())) == 1, expected=expected, observed=observed, remedy=remedy)


def gate_keys(env: Environment) -> Iterator[Check]:
    """Each generated key is known to the gate, and has not ended."""
    keys = env.read_secrets().get("gate", {})
    try:
        with env.database_of(IG_ADMISSION_DSN).scope() as connection:
            known = {principal.key_sha256: principal for principal in principals.active(connection)}
    except PlatformError as fault:
        yield unknown("gate keys", expected="accepted", why=str(fault), remedy="see the servers")
        return
    for secret, name in principals.KEY_OF.items():
        if secret not in keys:
            continue
        found = known.get(principals.key_hash(keys[secret]))
        ended = f"ended at {found.expired_at}" if found and found.expired_at else None
        observed = ended or ("accepted" if found else "not known to the gate, or withdrawn")
        yield judged(
            f"gate key {name}", good=found is not None and ended is None, expected="accepted by the gate", observed=observed,
            remedy="platform up makes the generated keys known; in place of one that ended: platform keys rotate NAME",
        )  # fmt: skip


def workers(env: Environment) -> Iterator[Check]:
    """Every worker of the packs says, from the process that supervision runs now, that it runs this code."""
    for seen in _supervised(env):
        yield _worker(env, seen, _last_beat(env, seen["worker"]))


def _supervised(env: Environment) -> list[Mapping[str, Any]]:
    """Every worker of the packs as `platform status` shows it."""
    return [worker for pack in env.look_at_platform()["packs"] for worker in pack["workers"]]


def _last_beat(env: Environment, worker: str) -> Heartbeat | None:
    return read_heartbeat(env.profile.path("beats", f"{worker}.json"))


def _worker(env: Environment, seen: Mapping[str, Any], beat: Heartbeat | None) -> Check:
    worker = seen["worker"]
    name, expected = f"worker {worker}", f"{env.code_version}, said by the process that runs now"
    if own := own_beat(seen["pid"], beat):
        return judged(
            name, good=own.version == env.code_version, expected=env.code_version, observed=own.version or "unnamed",
            remedy=f"platform restart {worker}: it runs other code than the rest",
        )  # fmt: skip
    if beat is None:
        return unknown(name, expected=expected, why="it has no heartbeat", remedy=f"platform start {worker}")
    if seen["status"] == STARTING:
        why = f"pid {seen['pid']} starts and has not beaten yet"
        return unknown(name, expected=expected, why=why, remedy="ask again when it has")
    left = "which supervision does not run" if beat.process.alive() else "which is gone"
    now = f"{seen['status']} ({seen['reason']})" if seen["reason"] else seen["status"]
    remedy = _REMEDY.get(seen["status"], "it is started again by itself; why it ended: platform events {}")
    return judged(
        name, good=False, expected=expected, observed=f"a heartbeat of pid {beat.pid}, {left}; now {now}",
        remedy=remedy.format(worker),
    )  # fmt: skip


_REMEDY: Final = {HELD: "put it right, then: platform resume {}", STOPPED: "platform start {}"}
