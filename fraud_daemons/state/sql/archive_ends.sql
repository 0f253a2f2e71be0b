-- Where the archive's ledger of a run ends, per partition that has a segment of it: a few rows of the index by run, however much
-- was admitted. Segments of one run and partition do not overlap.
select p.topic, p."partition", s.last_position, s.sha256
from unnest(%(topics)s::text[], %(partitions)s::integer[]) as p(topic, "partition")
cross join lateral (
  select last_position, sha256
  from archive.segments
  where platform_run_id = %(run)s and topic = p.topic and "partition" = p."partition"
  order by first_position desc
  limit 1
) s
