-- One row per intent; what is there already stays, and only what is new comes back.
insert into al.intents (
  platform_run_id, intent_id, decision_id, flow_id, action, origin, record_key, content_hash, body, executor, state,
  not_before, received_at
)
select
  i.platform_run_id, i.intent_id, i.decision_id, i.flow_id, i.action, i.origin, i.record_key, i.content_hash, i.body,
  i.executor, i.state, %(at)s, %(at)s
from unnest(
  %(platform_run_id)b::text[], %(intent_id)b::text[], %(decision_id)b::text[], %(flow_id)b::text[], %(action)b::text[],
  %(origin)b::text[], %(record_key)b::text[], %(content_hash)b::text[], %(body)b::bytea[], %(executor)b::text[],
  %(state)b::text[]
) with ordinality as i(
  platform_run_id, intent_id, decision_id, flow_id, action, origin, record_key, content_hash, body, executor, state, n
)
order by i.n
on conflict do nothing
returning platform_run_id, intent_id
