-- The receipts of a stretch of one partition, by position. A topic holds its own events and progress marks.
select l."position", l.platform_run_id, l.event_id, a.event_type, a.payload_hash, a.producer, a.admitted_at
from (
  select "position", platform_run_id, event_id
  from bus.log
  where topic = %(topic)s and "partition" = %(partition)s and "position" >= %(position)s
  order by topic, "partition", "position"
  limit %(limit)s
) l
left join ig.admissions a
  on a.platform_run_id = l.platform_run_id
  and a.event_type in (%(topic)s, 'progress_mark')
  and a.event_id = l.event_id
order by l."position"
