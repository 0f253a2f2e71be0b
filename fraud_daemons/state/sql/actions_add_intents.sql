-- One row per intent; what is there already stays, and only what is new comes back.
insert into al.intents (
  platform_run_id, intent_id, decision_id, flow_id, action, origin, record_key, content_hash, body, executor, state,
  not_before, received_at
)
select
  i.platform_run_id, i.intent_id, i.decision_id, i.flow_id, i.action, i.origin, i.record_key, i.content_hash, i.body,
  i.executor, i.state, %(at)s, %(at)s
from unnest(
  %(platform_run_id)s::text[], %(intent_id)s::text[], %(decision_id)s::text[], %(flow_id)s::text[], %(action)s::text[],
  %(origin)s::text[], %(record_key)s::text[], %(content_hash)s::text[], %(body)b::bytea[], %(executor)s::text[],
  %(state)s::text[]
) with ordinality as i(
  platform_run_id, intent_id, decision_id, flow_id, action, origin, record_key, content_hash, body, executor, state, n
)
order by i.n
on conflict do nothing
returning platform_run_id, intent_id
