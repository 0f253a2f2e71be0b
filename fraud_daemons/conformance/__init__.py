"""The running environment against its profile and packs: what is compared, and how each deviation is told.

Asked by the worker `environment_conformance` every few seconds and by `platform conformance` when a person asks; both use
these checks. Each asks the running thing - a server, the store, a heartbeat, the environment - never two files.
"""
