-- Who was seen together in a batch, added to what was seen before; times in microseconds since the epoch. In key order, so
-- that no two writers wait for each other in a circle.
insert into ieg.edges (platform_run_id, card, entity, first_seen, last_seen, flows)
select %(run)s, card, entity, timestamptz 'epoch' + first * interval '1 microsecond',
       timestamptz 'epoch' + last * interval '1 microsecond', flows
from unnest(%(cards)b::text[], %(entities)b::text[], %(first)b::bigint[], %(last)b::bigint[], %(flows)b::bigint[])
  as w(card, entity, first, last, flows)
order by card, entity
on conflict (platform_run_id, card, entity) do update set
  first_seen = least(edges.first_seen, excluded.first_seen),
  last_seen = greatest(edges.last_seen, excluded.last_seen),
  flows = edges.flows + excluded.flows
