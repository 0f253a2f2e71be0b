-- Who was seen together in a batch, added to what was seen before. In key order.
insert into ieg.edges (platform_run_id, card, entity, first_seen, last_seen, flows)
select run, card, entity, first_seen::timestamptz, last_seen::timestamptz, flows
from unnest(%(runs)b::text[], %(cards)b::text[], %(entities)b::text[], %(first)b::text[], %(last)b::text[], %(flows)b::bigint[])
  as w(run, card, entity, first_seen, last_seen, flows)
order by run, card, entity
on conflict (platform_run_id, card, entity) do update set
  first_seen = least(edges.first_seen, excluded.first_seen),
  last_seen = greatest(edges.last_seen, excluded.last_seen),
  flows = edges.flows + excluded.flows
