-- One row per run and flow; what is there already stays, and only what is new comes back (to be published).
insert into df.decisions (
  platform_run_id, flow_id, decision_id, outcome, score, feature_status, context_status, core_digest,
  policy_id, policy_revision, policy_digest, posture_mode, posture_sequence, snapshot_hash, occurred_at, source_seq,
  card_token, decided_topic, decided_partition, decided_position, decided_at, body
)
select
  d.platform_run_id, d.flow_id, d.decision_id, d.outcome, d.score, d.feature_status, d.context_status, d.core_digest,
  %(policy_id)s, %(policy_revision)s, %(policy_digest)s, %(posture_mode)s, %(posture_sequence)s,
  d.snapshot_hash, d.occurred_at::timestamptz, d.source_seq, d.card_token,
  d.decided_topic, d.decided_partition, d.decided_position, %(decided_at)s, d.body
from unnest(
  %(platform_run_id)b::text[], %(flow_id)b::text[], %(decision_id)b::text[], %(outcome)b::text[], %(score)b::integer[],
  %(feature_status)b::text[], %(context_status)b::text[], %(core_digest)b::text[], %(snapshot_hash)b::text[],
  %(occurred_at)b::text[], %(source_seq)b::bigint[], %(card_token)b::text[],
  %(decided_topic)b::text[], %(decided_partition)b::integer[], %(decided_position)b::bigint[], %(body)b::bytea[]
) as d(
  platform_run_id, flow_id, decision_id, outcome, score, feature_status, context_status, core_digest, snapshot_hash,
  occurred_at, source_seq, card_token, decided_topic, decided_partition, decided_position, body
)
on conflict do nothing
returning platform_run_id, flow_id
