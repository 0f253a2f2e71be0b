-- Decided flows of a run that had occurred at a time, in the world's order, with what was decided and what it rested on.
select flow_id, decision_id, occurred_at, source_seq, outcome, score, feature_status, snapshot_hash, body
from df.decisions
where platform_run_id = %(run)s and occurred_at <= %(at)s
order by occurred_at, source_seq, flow_id
