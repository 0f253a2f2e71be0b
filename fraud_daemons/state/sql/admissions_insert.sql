-- The receipts of a batch. A row that another request committed first is left alone and missing in the count.
insert into ig.admissions
  (platform_run_id, event_type, event_id, payload_hash, producer, topic, "partition", "position", admitted_at)
select w.run, w.type, w.id, w.hash, %(producer)s, w.topic, w.part, w.pos, %(at)s
from unnest(
  %(runs)b::text[], %(types)b::text[], %(ids)b::text[], %(hashes)b::text[], %(topics)b::text[],
  %(partitions)b::integer[], %(positions)b::bigint[]
) as w(run, type, id, hash, topic, part, pos)
order by w.run, w.type, w.id
on conflict do nothing
