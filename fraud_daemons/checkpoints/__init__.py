"""TRUTH 3: where a consumer resumes - (worker, topic, partition) -> position, epoch. Progress only, never business truth.

port - claim and compare-and-set | postgres - in the same transaction as the state | sqlite_sidecar - run-scoped file,
for workers whose output is not PostgreSQL.
"""
