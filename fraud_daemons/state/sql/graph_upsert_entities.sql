-- What a batch saw, added to what was seen before. In key order, so that no two writers wait for each other in a circle.
insert into ieg.entities (platform_run_id, entity, first_seen, last_seen, flows)
select run, entity, first_seen::timestamptz, last_seen::timestamptz, flows
from unnest(%(runs)b::text[], %(entities)b::text[], %(first)b::text[], %(last)b::text[], %(flows)b::bigint[])
  as w(run, entity, first_seen, last_seen, flows)
order by run, entity
on conflict (platform_run_id, entity) do update set
  first_seen = least(entities.first_seen, excluded.first_seen),
  last_seen = greatest(entities.last_seen, excluded.last_seen),
  flows = entities.flows + excluded.flows
