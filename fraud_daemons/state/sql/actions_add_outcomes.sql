-- How intents ended: the first end counts, and only what is new comes back (to be published).
with new as (
  insert into al.outcomes (
    platform_run_id, intent_id, decision_id, status, executor, attempts, detail, completed_at, body
  )
  select o.platform_run_id, o.intent_id, o.decision_id, o.status, o.executor, o.attempts, o.detail, %(at)s, o.body
  from unnest(
    %(platform_run_id)b::text[], %(intent_id)b::text[], %(decision_id)b::text[], %(status)b::text[],
    %(executor)b::text[], %(attempts)b::integer[], %(detail)b::text[], %(body)b::bytea[]
  ) as o(platform_run_id, intent_id, decision_id, status, executor, attempts, detail, body)
  on conflict do nothing
  returning platform_run_id, intent_id
), done as (
  -- rows of this very transaction were stored as DONE; this moves on those that waited for a call
  update al.intents i
  set state = 'DONE'
  from unnest(%(platform_run_id)b::text[], %(intent_id)b::text[]) as o(platform_run_id, intent_id)
  where i.platform_run_id = o.platform_run_id and i.intent_id = o.intent_id and i.state = 'PENDING'
)
select platform_run_id, intent_id from new
