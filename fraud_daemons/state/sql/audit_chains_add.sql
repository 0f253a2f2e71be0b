-- One row per decision; what is there already stays, and only what is new comes back. A decision without intents is
-- closed as it comes.
insert into dla.chains (
  platform_run_id, chain_id, decision_id, flow_id, record_key, core_digest, outcome, intents, statuses,
  intents_expected, state, opened_at, closed_at
)
select
  c.platform_run_id, c.chain_id, c.decision_id, c.flow_id, c.record_key, c.core_digest, c.outcome, i.intents,
  case when cardinality(i.intents) = 0 then '{}'::text[] end,
  cardinality(i.intents),
  case when cardinality(i.intents) = 0 then 'CLOSED' else 'OPEN' end,
  %(at)s,
  case when cardinality(i.intents) = 0 then %(at)s end
from unnest(
  %(platform_run_id)b::text[], %(chain_id)b::text[], %(decision_id)b::text[], %(flow_id)b::text[],
  %(record_key)b::text[], %(core_digest)b::text[], %(outcome)b::text[], %(intents)b::text[]
) as c(platform_run_id, chain_id, decision_id, flow_id, record_key, core_digest, outcome, intents_joined)
-- arrays of arrays must be rectangular, so the intents of a decision travel as one text
cross join lateral (select string_to_array(c.intents_joined, ',') as intents) i
on conflict do nothing
returning platform_run_id, chain_id
