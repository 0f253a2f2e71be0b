-- How far chains are: outcomes seen, and for those that close their statuses in the order of their intents.
update dla.chains c
set outcomes_seen = p.seen,
    statuses = case when p.closes then string_to_array(p.statuses, ',') end,
    state = case when p.closes then 'CLOSED' else 'OPEN' end,
    closed_at = case when p.closes then %(at)s::timestamptz end
from unnest(
  %(runs)b::text[], %(chains)b::text[], %(seen)b::integer[], %(closes)b::boolean[], %(statuses)b::text[]
) as p(platform_run_id, chain_id, seen, closes, statuses)
where c.platform_run_id = p.platform_run_id and c.chain_id = p.chain_id and c.state = 'OPEN'
