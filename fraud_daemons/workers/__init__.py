"""One folder per pack, one file per worker. Packs never import each other.

A worker file exposes `WORKER` (see `fraud_daemons.runtime.worker`); its name stands in its pack's file in `packs/`.
"""
