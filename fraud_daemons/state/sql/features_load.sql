-- The windows of many entities in one go: one row per entity, its events as four arrays in the order of the world.
select w.platform_run_id, w.entity, e.times, e.seqs, e.amounts, e.counterparts
from unnest(%(runs)b::text[], %(entities)b::text[]) as w(platform_run_id, entity)
cross join lateral (
  select array_agg(o.occurred_at_microseconds) as times, array_agg(o.source_seq) as seqs,
         array_agg(o.amount_minor) as amounts, array_agg(o.counterpart) as counterparts
  from (
    select occurred_at_microseconds, source_seq, amount_minor, counterpart
    from ofp.entity_events
    where platform_run_id = w.platform_run_id and entity = w.entity
    order by occurred_at_microseconds, source_seq, flow_key
  ) o
) e
where e.times is not null
