-- Open chains of these decisions, each with the outcomes that have come for it.
select
  c.platform_run_id, c.chain_id, c.decision_id, c.flow_id, c.record_key, c.core_digest, c.outcome, c.intents,
  coalesce(array_agg(o.intent_id order by o.intent_id) filter (where o.intent_id is not null), '{}') as answered,
  coalesce(array_agg(o.status order by o.intent_id) filter (where o.intent_id is not null), '{}') as statuses
from unnest(%(runs)b::text[], %(decisions)b::text[], %(chains)b::text[]) as w(platform_run_id, decision_id, chain_id)
join dla.chains c on c.platform_run_id = w.platform_run_id and c.chain_id = w.chain_id and c.state = 'OPEN'
left join dla.outcomes o on o.platform_run_id = w.platform_run_id and o.decision_id = w.decision_id
group by c.platform_run_id, c.chain_id
