"""The evidence store of a profile: the embedded one, or an own endpoint with keys from the environment."""

from __future__ import annotations

import os

from fraud_daemons.config.ports import chosen_port
from fraud_daemons.config.profiles import Profile
from fraud_daemons.config.secrets_file import read_secrets
from fraud_daemons.evidence.port import EvidenceStore
from fraud_daemons.evidence.s3 import S3EvidenceStore, S3Settings


def evidence_store(profile: Profile, *, identity: str = "writer") -> EvidenceStore:
    """The profile's evidence store; `identity` = "writer" (workers) or "admin" (platform up)."""
    return S3EvidenceStore(lambda: s3_settings(profile, identity=identity))


def s3_settings(profile: Profile, *, identity: str) -> S3Settings:
    """Endpoint, bucket and keys. Keys of an external store come from the environment (AWS_*) via secrets.json or boto3."""
    keys = read_secrets(profile.run_dir).get("objectstore", {})
    prefix = "writer_" if identity == "writer" else ""
    endpoint = profile.get("objectstore.endpoint") or f"http://127.0.0.1:{chosen_port(profile, 'objectstore_port')}"
    if not profile.embedded_objectstore:
        keys = {
            f"{prefix}access_key": os.environ.get("AWS_ACCESS_KEY_ID", ""),
            f"{prefix}secret_key": os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        }
    return S3Settings(
        endpoint=endpoint,
        bucket=profile.get("objectstore.bucket"),
        region=profile.get("objectstore.region"),
        access_key=keys.get(f"{prefix}access_key", ""),
        secret_key=keys.get(f"{prefix}secret_key", ""),
    )
