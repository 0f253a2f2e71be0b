-- Lock the heads in (topic, partition) order, so that two appends never wait for each other in a circle, then move
-- them on. The old stamp tells whether the topic was idle, which is when a notification is worth its price.
with wanted as (
  select topic, "partition", records
  from unnest(%(topics)s::text[], %(partitions)s::integer[], %(records)s::bigint[]) as w(topic, "partition", records)
), locked as (
  select h.topic, h."partition", h.next_position, h.appended_at
  from bus.heads h
  join wanted using (topic, "partition")
  order by h.topic, h."partition"
  for update of h
), moved as (
  update bus.heads h
  set next_position = l.next_position + w.records, appended_at = clock_timestamp()
  from locked l
  join wanted w using (topic, "partition")
  where h.topic = l.topic and h."partition" = l."partition"
  returning h.topic, h."partition", l.next_position as base, h.appended_at - l.appended_at > interval '50 milliseconds' as was_idle
)
select topic, "partition", base, was_idle from moved
