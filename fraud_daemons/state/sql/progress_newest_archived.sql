-- The run's newest record in the archive's ledger, per partition. Segments of one run and partition do not overlap.
select p.topic, p."partition", s.last_position
from unnest(%(topics)s::text[], %(partitions)s::integer[]) as p(topic, "partition")
cross join lateral (
  select last_position
  from archive.segments
  where platform_run_id = %(run)s and topic = p.topic and "partition" = p."partition"
  order by first_position desc
  limit 1
) s
