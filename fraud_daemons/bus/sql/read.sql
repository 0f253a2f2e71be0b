-- Up to `limit` records of each partition from its position on; one round trip whatever the number of partitions.
select l.topic, l."partition", l."position", l.record_key, l.event_id, l.platform_run_id, l.body,
       date_part('epoch', l.appended_at) as appended_at
from unnest(%(topics)s::text[], %(partitions)s::integer[], %(positions)s::bigint[]) as p(topic, "partition", "position")
cross join lateral (
  select *
  from bus.log
  where topic = p.topic and "partition" = p."partition" and "position" >= p."position"
  order by topic, "partition", "position"
  limit %(limit)s
) l
