-- What a batch saw, added to what was seen before; as in graph_upsert_edges.sql.
insert into ieg.entities (platform_run_id, entity, first_seen, last_seen, flows)
select %(run)s, entity, timestamptz 'epoch' + first * interval '1 microsecond',
       timestamptz 'epoch' + last * interval '1 microsecond', flows
from unnest(%(entities)b::text[], %(first)b::bigint[], %(last)b::bigint[], %(flows)b::bigint[])
  as w(entity, first, last, flows)
order by entity
on conflict (platform_run_id, entity) do update set
  first_seen = least(entities.first_seen, excluded.first_seen),
  last_seen = greatest(entities.last_seen, excluded.last_seen),
  flows = entities.flows + excluded.flows
