-- The end of the archive's chain of a run on the topics that the gate writes: the newest segment's hash. A few rows of the index by
-- run, however much was admitted.
select p.topic, p."partition", s.sha256
from unnest(%(topics)s::text[], %(partitions)s::integer[]) as p(topic, "partition")
cross join lateral (
  select sha256
  from archive.segments
  where platform_run_id = %(run)s and topic = p.topic and "partition" = p."partition"
  order by first_position desc
  limit 1
) s
